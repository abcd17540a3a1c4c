"""Divide vectors by their root mean square, with a gain or without, in float32 at least.

y = gain * x / sqrt(mean(x^2) + eps), over the last axis, answered in x's type. The gain is
offset + weight; no weight: 1.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm
from torch.nn.functional import rms_norm

from gptlab.kernels.precision import exact_products, precise


def gain_then_round(x: Tensor, weight: Tensor | None, eps: float, offset: float) -> Tensor:
    """Multiply by the gain before rounding to x's type (Gemma)."""
    factor = None if weight is None else gain(weight, offset)
    if x.is_cpu and x.requires_grad and not torch.compiler.is_compiling():
        return RootMeanSquareNorm.apply(x, factor, eps)
    wide = precise(x) if factor is None else x.to(factor.dtype)
    return rms_norm(wide, x.shape[-1:], factor, eps).to(x.dtype)


def round_then_gain(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """Round to x's type before multiplying by the gain (Llama). The same in float32."""
    return gain_then_round(x, None, eps, 0.0) * gain(weight, offset).to(x.dtype)


class RootMeanSquareNorm(Function):
    """The norm and its gradient written out, for CPUs, where torch's falls into many kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
        wide = precise(x) if gain is None else x.to(gain.dtype)
        length = vector_norm(wide, dim=-1, keepdim=True)
        inverse = length.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, inverse)
        y = wide * inverse
        return (y if gain is None else y.mul_(gain)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gain, inverse = ctx.saved_tensors
        dy, wide = dy.to(inverse.dtype), x.to(inverse.dtype)
        product = dy * wide
        if gain is None:
            d_gain, along = None, product.sum(-1, keepdim=True)
        else:
            with exact_products(dy.device):
                d_gain = product.flatten(0, -2).t() @ inverse.flatten()
                along = (product @ gain)[..., None]
        dx = torch.mul(dy, inverse, out=product)
        if gain is not None:
            dx.mul_(gain)
        towards = along.mul_(inverse.pow(3)).mul_(-1 / x.shape[-1])
        return dx.addcmul_(wide, towards).to(x.dtype), d_gain, None


def gain(weight: Tensor, offset: float) -> Tensor:
    """Give what normed numbers are multiplied by, in float32 at least."""
    return offset + precise(weight) if offset else precise(weight)
