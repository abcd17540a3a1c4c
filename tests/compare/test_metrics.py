"""What metrics take from a run's lines."""

from pathlib import Path

import pytest

from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.runs.folder import RunFolder


def measured(*val_losses: float | None) -> MeasuredRun:
    lines = [
        {"step": step, "seconds": step, "val_loss": loss, "bits_per_byte": loss}
        for step, loss in enumerate(val_losses, start=1)
    ]
    return MeasuredRun(RunFolder(Path("none")), lines, [x for x in lines if x["val_loss"]])


@pytest.mark.parametrize("name", ["val_loss", "bits_per_byte"])
def test_an_end_that_is_not_finite_is_not_what_was_before_it(name: str):
    metric = Metric.parse(name)
    assert metric.measure(measured(3.0, None, 2.0)) == 2.0
    assert metric.measure(measured(3.0, 2.0, None)) is None
