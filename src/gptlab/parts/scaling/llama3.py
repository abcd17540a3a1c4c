"""Llama 3.1: short wavelengths stay, long ones are stretched by the factor (arXiv:2407.21783).

Wavelengths below T0 / high_freq_factor tokens stay, those above T0 / low_freq_factor are stretched
in full, and in between the frequency is a mean of both, weighted by how many times the wavelength
fits into T0, the original length. As in the models' published code.
"""

import math

from pydantic import PositiveFloat
from torch import Tensor

from gptlab.parts.scaling import Factor
from gptlab.parts.scaling._extension import Extension


class Llama3(Extension):
    """Extends a context of `original_length` tokens by `factor`.

    `factor`: how much longer the context becomes; 1 is plain.
    `original_length`: the context length of training; null: context_length / factor. Llama 3.1
    has 8192, although its context is 16 times as long.
    `low_freq_factor`, `high_freq_factor`: turns within it that are few, and many.
    """

    factor: Factor = 8.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        turns_F = self.length_before(context_length) * frequency_F / (2 * math.pi)
        span = self.high_freq_factor - self.low_freq_factor
        kept_F = ((turns_F - self.low_freq_factor) / span).clamp(0, 1)
        return frequency_F * kept_F + frequency_F / self.factor * (1 - kept_F)

    def check(self, n_frequencies: int, setting: str) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"{setting}.high_freq_factor={self.high_freq_factor} must be greater than "
                f"low_freq_factor={self.low_freq_factor}: it is the one of more turns"
            )
