"""Divide vectors by their root mean square, with a gain or without, in float32 at least.

y = gain * x / sqrt(mean(x^2) + eps), over the last axis, answered in x's type. The gain is
offset + weight; no weight: 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import rms_norm

from gptlab.kernels.precision import precise


def gain_then_round(x: Tensor, weight: Tensor | None, eps: float, offset: float) -> Tensor:
    """Multiply by the gain before rounding to x's type (Gemma)."""
    gain = None if weight is None else _gain(weight, offset)
    if x.is_cpu and x.requires_grad and not torch.compiler.is_compiling():
        return RootMeanSquareNorm.apply(x, gain, eps)
    wide = precise(x) if gain is None else x.to(gain.dtype)
    return rms_norm(wide, x.shape[-1:], gain, eps).to(x.dtype)


def round_then_gain(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """Round to x's type before multiplying by the gain (Llama). The same in float32."""
    return gain_then_round(x, None, eps, 0.0) * _gain(weight, offset).to(x.dtype)


class RootMeanSquareNorm(Function):
    """The norm and its gradient written out, for CPUs, where torch's falls into many kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
        wide = precise(x) if gain is None else x.to(gain.dtype)
        inverse = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, inverse)
        y = wide * inverse
        return (y if gain is None else y.mul_(gain)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gain, inverse = ctx.saved_tensors
        dy, unit = dy.to(inverse.dtype), x.to(inverse.dtype) * inverse
        scaled = dy if gain is None else dy * gain
        mean = (scaled * unit).mean(-1, keepdim=True)
        dx = torch.addcmul(scaled, unit, mean, value=-1).mul_(inverse).to(x.dtype)
        return dx, None if gain is None else (dy * unit).flatten(0, -2).sum(0), None


def _gain(weight: Tensor, offset: float) -> Tensor:
    return offset + precise(weight) if offset else precise(weight)
