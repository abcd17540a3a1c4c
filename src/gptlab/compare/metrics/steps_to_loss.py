"""Steps until the validation loss reaches a target."""

from gptlab.compare.metrics import MeasuredRun
from gptlab.compare.metrics._target import ToTarget


class StepsToLoss(ToTarget):
    """As fine as `train.evaluate_every`."""

    title = "steps to a validation loss"
    unit = "steps"
    scale = "ratio"

    def measure(self, measured: MeasuredRun) -> float | None:
        return self.reached(measured, "step")
