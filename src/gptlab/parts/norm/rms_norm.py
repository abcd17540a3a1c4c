"""RMSNorm: divide by the root mean square, without centring (arXiv:1910.07467).

y = gain * x / sqrt(mean(x^2) + eps), over the last axis.
"""

from pydantic import PositiveFloat
from torch import nn

from gptlab.parts.norm import Norm


class RMSNorm(Norm):
    """`eps` is added to the mean square."""

    eps: PositiveFloat = 1e-5

    def build(self, width: int) -> nn.Module:
        return nn.RMSNorm(width, eps=self.eps)
