"""Schedule: how the learning rate moves through a run.

Contract: `multiplier(step, steps)` is what the peak learning rate is multiplied with at `step`,
counted from 0, of `steps`. All schedules begin with a linear warm-up.
"""

from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from gptlab.config import Part

Fraction = Annotated[float, Field(ge=0, le=1)]


class Schedule(Part):
    """The slot `schedule`. `warmup`: the fraction of the run that rises to the peak."""

    warmup: Fraction = 0.0

    def multiplier(self, step: int, steps: int) -> float:
        """Give the fraction of the peak learning rate at this step."""
        warmup_steps = round(self.warmup * steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return self.after_warmup((step - warmup_steps) / max(1, steps - warmup_steps))

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """Give the multiplier at `progress` in [0, 1) of what follows the warm-up."""
