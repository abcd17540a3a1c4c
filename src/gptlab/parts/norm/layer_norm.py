"""LayerNorm: subtract the mean, divide by the deviation (arXiv:1607.06450).

y = gain * (x - mean) / sqrt(variance + eps) + bias, over the last axis, with the biased variance.
"""

from pydantic import PositiveFloat
from torch import nn

from gptlab.parts.norm import Norm


class LayerNorm(Norm):
    """`bias`: whether a learned offset is added. `eps` is added to the variance."""

    eps: PositiveFloat = 1e-5
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        return nn.LayerNorm(width, eps=self.eps, bias=self.bias)
