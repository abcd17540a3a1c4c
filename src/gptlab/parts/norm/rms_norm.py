"""RMSNorm: divide by the root mean square, without centring (arXiv:1910.07467).

y = gain * x / sqrt(mean(x^2) + eps), over the last axis. Computed in float32 at least, and answered
in the input's type.
"""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptlab.kernels.rms_norm import gain_then_round, round_then_gain
from gptlab.parts.norm import Norm


class RMSNorm(Norm):
    """`eps` is added to the mean square.

    `affine`: whether there is a learned gain.
    `offset`: the gain is 1 + w, with w from 0 on, so that weight decay pulls it towards 1 (Gemma).
    `cast`: what is rounded to the input's type first: `gemma` the product with the gain, `llama`
    what the gain is multiplied with. The same in float32.
    """

    eps: PositiveFloat = 1e-5
    affine: bool = True
    offset: bool = False
    cast: Literal["gemma", "llama"] = "gemma"

    def build(self, width: int) -> nn.Module:
        if self.affine:
            return RMSNormLayer(width, self)
        if self.offset or self.cast != "gemma":
            setting = "offset=true" if self.offset else f"cast={self.cast}"
            raise ValueError(f"norm.{setting} is about a gain, which norm.affine=false leaves out")
        return NoGain(self.eps)


class NoGain(nn.Module):
    def __init__(self, eps: float):
        super().__init__()
        self.eps, self.norm = eps, gain_then_round

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, None, self.eps, 0.0)


class RMSNormLayer(nn.Module):
    def __init__(self, width: int, config: RMSNorm):
        super().__init__()
        self.eps, self.offset = config.eps, float(config.offset)
        self.weight = nn.Parameter(torch.full((width,), 1 - self.offset))
        self.norm = {"gemma": gain_then_round, "llama": round_then_gain}[config.cast]

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, self.weight, self.eps, self.offset)
