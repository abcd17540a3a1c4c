"""Seconds of training, evaluation not counted, until the validation loss reaches a target."""

from gptlab.compare.metrics import MeasuredRun
from gptlab.compare.metrics._target import ToTarget


class SecondsToLoss(ToTarget):
    """As fine as `train.evaluate_every`."""

    title = "time to a validation loss"
    unit = "s"
    scale = "ratio"
    depends_on_time = True

    def measure(self, measured: MeasuredRun) -> float | None:
        return self.reached(measured, "seconds")
