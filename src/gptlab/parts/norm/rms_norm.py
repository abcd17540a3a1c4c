"""RMSNorm: divide by the root mean square, without centring (arXiv:1910.07467).

y = gain * x / sqrt(mean(x^2) + eps), over the last axis.
"""

from pydantic import PositiveFloat
from torch import Tensor, nn

from gptlab.parts.norm import Norm


class RMSNorm(Norm):
    """`eps` is added to the mean square."""

    eps: PositiveFloat = 1e-5

    def build(self, width: int) -> nn.Module:
        return RMSNormLayer(width, eps=self.eps)


class RMSNormLayer(nn.RMSNorm):
    """Computes in the gain's type, float32 under autocast, and answers in the input's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)
