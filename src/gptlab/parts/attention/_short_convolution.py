"""A short convolution of every channel, then SiLU: what a recurrence reads of the last few tokens.

B batch, T tokens, C channels, W width, P = W - 1 inputs of the past.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gptlab.kernels.short_convolution import short_convolution
from gptlab.parts.attention._recurrent import RecurrentCache
from gptlab.parts.layers import Drawn


class ShortConvolution(Drawn):
    """Weights start as U(-1, 1) / sqrt(W), as those of torch's own convolutions."""

    def __init__(self, n_channels: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, n_channels))

    def draw(self, generator: torch.Generator) -> Tensor:
        bound = self.weight.shape[0] ** -0.5
        return torch.empty(self.weight.shape).uniform_(-bound, bound, generator=generator)

    def forward(self, x_BTC: Tensor, cache: RecurrentCache, segments_BT: Tensor | None) -> Tensor:
        past_BPC = cache.past_BPC
        if past_BPC is None:
            past_BPC = x_BTC.new_zeros(x_BTC.shape[0], self.weight.shape[0] - 1, x_BTC.shape[2])
        y_BTC, past_BPC = short_convolution(x_BTC, self.weight, past_BPC, segments_BT)
        cache.past_BPC = past_BPC.clone()  # a view would keep the whole text
        return silu(y_BTC).to(x_BTC.dtype)
