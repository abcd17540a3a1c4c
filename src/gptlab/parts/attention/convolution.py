"""Convolution: no attention at all, but a short look back: SiLU of the last few tokens, weighted.

    y_t = silu(sum over i < W of w_i * x_(t - W + 1 + i))

One learned weight per channel and token seen, and no projection: the cheapest layer that knows its
neighbours, beside layers of attention (`alternating`), as Canon layers are (arXiv:2512.17351). In a
first layer it shows the MLP the last W tokens. Positions are of no use to it.

B batch, T tokens, D d_model, W width.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from gptlab.parts.attention import Attention
from gptlab.parts.attention._recurrent import RecurrentMixer
from gptlab.parts.attention._short_convolution import ShortConvolution
from gptlab.parts.context import Context
from gptlab.parts.needs import Needs


class Convolution(Attention):
    """`width`: how many tokens it sees, the newest included."""

    width: Annotated[int, Field(gt=0, le=1_000)] = 4

    def build(self, needs: Needs, layer: int) -> "ConvolutionMixer":
        return ConvolutionMixer(self, needs, layer)


class ConvolutionMixer(RecurrentMixer):
    def __init__(self, config: Convolution, needs: Needs, layer: int):
        super().__init__()
        self.layer = layer
        self.convolution = ShortConvolution(needs.d_model, config.width)
        self.dropout = nn.Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        cache = self.cache(context)
        segments_BT = cache.segments(context.documents_BT)
        return self.dropout(self.convolution(x_BTD, cache, segments_BT))

    def score_flops(self, T: int) -> float:
        """Each of D channels takes a product and a sum per token that it sees."""
        return 2 * self.convolution.weight.numel()
