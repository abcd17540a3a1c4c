"""How far a run is when its validation loss first reaches a target."""

from pydantic import PositiveFloat

from gptlab.compare.metrics import MeasuredRun, Metric


class ToTarget(Metric):
    """`target`: a validation loss in nats per token. Between two evaluations it is interpolated."""

    target: PositiveFloat

    @property
    def label(self) -> str:
        return f"{self.variant}({self.target:g})"

    def reached(self, measured: MeasuredRun, what: str) -> float | None:
        """Give the `what` (step, seconds) at which the target is reached; None: never."""
        before: dict[str, float] | None = None
        for line in measured.evaluations:
            if line["val_loss"] <= self.target:
                if before is None:
                    return line[what]
                part = (before["val_loss"] - self.target) / (before["val_loss"] - line["val_loss"])
                return before[what] + part * (line[what] - before[what])
            before = line
        return None
