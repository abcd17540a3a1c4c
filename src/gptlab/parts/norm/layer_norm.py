"""LayerNorm: subtract the mean, divide by the deviation (arXiv:1607.06450).

y = gain * (x - mean) / sqrt(variance + eps) + bias, over the last axis, with the biased variance.
"""

from pydantic import PositiveFloat
from torch import nn

from gptlab.parts.norm import Norm


class LayerNorm(Norm):
    """`eps` is added to the variance.

    `affine`: whether there is a learned gain; OLMo (arXiv:2402.00838) has neither it nor a bias.
    `bias`: whether a learned offset is added.
    """

    eps: PositiveFloat = 1e-5
    affine: bool = True
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        if self.bias and not self.affine:
            raise ValueError(
                "norm.bias=true with norm.affine=false: a layer_norm without a gain has no bias "
                "either; set norm.bias=false"
            )
        return nn.LayerNorm(width, eps=self.eps, elementwise_affine=self.affine, bias=self.bias)
