"""Metrics: what is measured of a finished run.

Contract: `measure(measured)` gives a number, or None where the run has none, which counts as the
worst: it diverged, or never reached what was asked. What is `better`, on which `scale` and in which
`unit`, a metric says as class variables. What is not in a run's lines, but computed, is a metric of
`_kept.py`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, field_validator

from gptlab.compare.texts import Facts
from gptlab.config import Part
from gptlab.runs.folder import RunFolder
from gptlab.train.recipe import Recipe


@dataclass(frozen=True)
class MeasuredRun:
    """A finished run; `lines` are those of its metrics, `evaluations` those with a validation."""

    run: RunFolder
    lines: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]

    @classmethod
    def of(cls, run: RunFolder) -> "MeasuredRun":
        """Read what a run has written."""
        lines, _ = run.metrics()
        return cls(run, lines, [line for line in lines if line.get("val_loss") is not None])

    def at_end(self, name: str) -> float | None:
        """Give a number of the last evaluation, at the end of the schedule; None: not finite."""
        return self.lines[-1][name] if self.lines else None


class Metric(Part):
    """The slot `metrics`. `margin`: the largest difference that does not matter; null: the noise.

    `scale`: `ratio` for what is compared by factors. `depends_on_time`: two machines, two values.
    `per_token`: two tokenizers, two meanings. `lost_means`: why a run has no value. `is_computed`:
    it takes time, after the run. `of_weights`: training a run in another way gives another value.
    """

    title: ClassVar[str]
    unit: ClassVar[str]
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    scale: ClassVar[Literal["difference", "ratio"]] = "difference"
    depends_on_time: ClassVar[bool] = False
    per_token: ClassVar[bool] = False
    lost_means: ClassVar[str] = "diverged"
    is_computed: ClassVar[bool] = False
    of_weights: ClassVar[bool] = True

    margin: PositiveFloat | None = None

    @field_validator("margin")
    @classmethod
    def _is_a_factor_of_ratios(cls, margin: float | None) -> float | None:
        if margin is not None and cls.scale == "ratio" and margin <= 1:
            raise ValueError(f"{margin:g} is no factor above 1, such as 1.05 for five percent")
        return margin

    @abstractmethod
    def measure(self, measured: MeasuredRun) -> float | None:
        """Measure a run that has ended."""

    @property
    def label(self) -> str:
        """What a document calls it."""
        return self.variant

    @property
    def heading(self) -> str:
        """What it is, in words."""
        return self.title

    def check(self, recipe: Recipe, facts: Facts) -> None:
        """Raise ValueError if runs of this recipe cannot have it, before there are any."""

    def note(self, recipe: Recipe, reference: Recipe) -> str:
        """Say what a reader must know of this recipe's values beside those of its reference."""
        return ""
