"""YaRN: fast frequencies stay, slow ones are divided by the factor, a ramp between (2309.00071).

What a frequency is depends on its turns within the original length T0: more than `beta_fast`
leave it as it is, fewer than `beta_slow` divide it. Frequency i turns r times in T0 at
i = R ln(T0 / (2 pi r)) / (2 ln base), and the ramp is linear in i. Queries and keys are multiplied
by 0.1 ln(factor) + 1, against the flatter softmax over more tokens.
"""

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor

from gptlab.parts.scaling._extension import Extension


class YaRN(Extension):
    """Extends a context of `original_length` tokens by `factor`.

    `factor`: how much longer the context becomes; 1 is plain.
    `original_length`: the context length of training; null: context_length / factor.
    `beta_fast`, `beta_slow`: turns at both ends of the ramp.
    `magnitude`: multiplies queries and keys; null: 0.1 ln(factor) + 1.
    `truncate`: whether the ramp's ends are rounded outward to whole frequencies.
    """

    beta_fast: PositiveFloat = 32.0
    beta_slow: PositiveFloat = 1.0
    magnitude: PositiveFloat | None = None
    truncate: bool = True

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        F = len(frequency_F)
        first, last = self.ramp(F, base, context_length)
        i_F = torch.arange(F, device=frequency_F.device)
        slow_F = ((i_F - first) / (last - first)).clamp(0, 1)
        return frequency_F * (1 - slow_F) + frequency_F / self.factor * slow_F

    def ramp(self, F: int, base: float, context_length: int) -> tuple[float, float]:
        """The last frequency that stays, and the first that is divided by the whole factor."""
        T0 = self.length_before(context_length)
        first, last = (
            F * math.log(T0 / (2 * math.pi * turns)) / math.log(base)
            for turns in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        last = min(last, 2 * F - 1)
        first = min(max(first, 0), last)
        return first, max(last, first + 0.001)

    def attention_factor(self, context_length: int) -> float:
        return self.magnitude or magnitude(self.factor)

    def check(self, n_frequencies: int, setting: str) -> None:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(
                f"{setting}.beta_fast={self.beta_fast} must be greater than "
                f"beta_slow={self.beta_slow}: more turns within the original length are faster"
            )


def magnitude(factor: float, weight: float = 1.0) -> float:
    """Give what makes up for the flatter softmax over `factor` times as many tokens."""
    return 0.1 * weight * math.log(factor) + 1
