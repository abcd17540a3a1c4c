"""Warm up, then stay at the peak."""

from gptlab.train.schedules import Schedule


class Constant(Schedule):
    """See the settings of the slot."""

    def after_warmup(self, progress: float) -> float:
        return 1.0
