"""RMSNorm: divide by the root mean square, without centring (arXiv:1910.07467).

y = gain * x / sqrt(mean(x^2) + eps), over the last axis. Computed in float32 at least, and answered
in the input's type.
"""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from gptlab.kernels.precision import precise
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
            layer = {"gemma": GainThenRound, "llama": RoundThenGain}[self.cast]
            return layer(width, self.eps, self.offset)
        if self.offset or self.cast != "gemma":
            setting = "offset=true" if self.offset else f"cast={self.cast}"
            raise ValueError(f"norm.{setting} is about a gain, which norm.affine=false leaves out")
        return NoGain(width, self.eps)


class NoGain(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.shape, self.eps = (width,), eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(precise(x), self.shape, eps=self.eps).to(x.dtype)


class GainThenRound(NoGain):
    def __init__(self, width: int, eps: float, offset: bool):
        super().__init__(width, eps)
        self.weight = nn.Parameter(torch.zeros(width) if offset else torch.ones(width))
        self.gain: Callable[[Tensor], Tensor] = add_one if offset else precise

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gain(self.weight)
        return rms_norm(x.to(gain.dtype), self.shape, gain, self.eps).to(x.dtype)


class RoundThenGain(GainThenRound):
    def forward(self, x: Tensor) -> Tensor:
        return NoGain.forward(self, x) * self.gain(self.weight).to(x.dtype)


def add_one(weight: Tensor) -> Tensor:
    """Give the gain that a weight stands for."""
    return 1 + precise(weight)
