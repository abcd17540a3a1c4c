"""LongRoPE: a factor of its own for every frequency, found by search (arXiv:2402.13753; Phi-3).

Queries and keys are multiplied by sqrt(1 + ln(s) / ln(T0)) for a context s times T0, the original
length. Phi-3 has a second list for texts within T0 and takes one or the other by the text at hand,
so that its caches are stale once T0 is passed; here is one list, that of the whole context.
"""

import math
from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import Tensor

from gptlab.parts.scaling import Scaling


class LongRoPE(Scaling):
    """Each frequency is divided by its factor, fastest first.

    `original_length`: the context length of training.
    `factors`: as many as frequencies; Phi-3's long list if `context_length` is beyond that length.
    `magnitude`: multiplies queries and keys; null: the formula above, and 1 for short contexts.
    """

    original_length: Annotated[int, Field(gt=1)]
    factors: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    magnitude: PositiveFloat | None = None

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        return frequency_F / frequency_F.new_tensor(self.factors)

    def attention_factor(self, context_length: int) -> float:
        growth = max(context_length / self.original_length, 1.0)
        return self.magnitude or math.sqrt(1 + math.log(growth) / math.log(self.original_length))

    def check(self, n_frequencies: int, setting: str) -> None:
        if len(self.factors) != n_frequencies:
            raise ValueError(
                f"{setting}.factors has {len(self.factors)} numbers; heads with {n_frequencies} "
                "frequencies need as many"
            )
