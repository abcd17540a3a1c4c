"""How far a run is when its validation loss first reaches a target."""

from pydantic import PositiveFloat

from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.compare.target import first_reach


class ToTarget(Metric):
    """`target`: a validation loss in nats per token. Between two evaluations it is interpolated."""

    per_token = True
    lost_means = "never reached"

    target: PositiveFloat

    @property
    def label(self) -> str:
        return f"{self.variant}({self.target:g})"

    def reached(self, measured: MeasuredRun, what: str) -> float | None:
        """Give the `what` (step, seconds) at which the target is reached; None: never."""
        lines = measured.evaluations
        amounts, losses = ([line[name] for line in lines] for name in (what, "val_loss"))
        return first_reach(amounts, losses, self.target)
