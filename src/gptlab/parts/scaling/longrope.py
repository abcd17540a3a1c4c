"""LongRoPE: a factor of its own for every frequency, found by search (arXiv:2402.13753; Phi-3).

Queries and keys are multiplied by sqrt(1 + ln(s) / ln(T0)) for a context s times T0, the original
length. Phi-3 has two lists of factors and takes one or the other by the text at hand, so that its
caches are stale once T0 is passed; here `context_length` decides, from the first token on.
"""

import math
from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import Tensor

from gptlab.parts.scaling import Scaling

Factors = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class LongRoPE(Scaling):
    """Each frequency is divided by its factor, fastest first.

    `original_length`: the context length of training.
    `short_factors`: used if `context_length` is no longer than that.
    `long_factors`: used if it is.
    `magnitude`: multiplies queries and keys; null: the formula above, and 1 for short contexts.
    """

    original_length: Annotated[int, Field(gt=1)]
    short_factors: Factors
    long_factors: Factors
    magnitude: PositiveFloat | None = None

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        is_long = context_length > self.original_length
        return frequency_F / frequency_F.new_tensor(
            self.long_factors if is_long else self.short_factors
        )

    def attention_factor(self, context_length: int) -> float:
        growth = max(context_length / self.original_length, 1.0)
        return self.magnitude or math.sqrt(1 + math.log(growth) / math.log(self.original_length))

    def check(self, n_frequencies: int, setting: str) -> None:
        for name in ("short_factors", "long_factors"):
            if len(getattr(self, name)) != n_frequencies:
                raise ValueError(
                    f"{setting}.{name} has {len(getattr(self, name))} numbers; heads "
                    f"with {n_frequencies} frequencies need as many"
                )
