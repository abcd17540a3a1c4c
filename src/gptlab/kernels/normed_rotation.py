"""The norm of queries and keys and their rotation in one, with a gradient written out, for CPUs.

y = turn * (gain * x / sqrt(mean(x^2) + eps)), computed in float32 at least. Neighbours are a pair,
read as a complex number, so that a rotation is one product in place: on a CPU moving numbers takes
longer than computing with them. A small model pays for each operation, so that the
heads of queries and keys are one tensor in between.

B batch, T tokens, H heads of a tensor, X heads of all tensors, E d_head, F = E/2 pairs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm


def norm_and_rotate(
    tensors: Sequence[Tensor], gains: Sequence[Tensor], eps: float, turn_BTXF: Tensor
) -> Sequence[Tensor]:
    """Norm and rotate x_BTHE of every tensor, with a gain_E for each; gives y_BHTE.

    turn: complex, for all heads, or as BT1F for each.
    """
    return NormedRotation.apply(len(tensors), eps, turn_BTXF, *tensors, *gains)


class NormedRotation(Function):
    @staticmethod
    def forward(
        ctx: Any, n: int, eps: float, turn_BTXF: Tensor, *given: Tensor
    ) -> tuple[Tensor, ...]:
        tensors, gains = given[:n], given[n:]
        x_BTXE = _together(tensors, turn_BTXF.dtype.to_real())
        ctx.heads = [x_BTHE.shape[2] for x_BTHE in tensors]
        length_BTX1 = vector_norm(x_BTXE, dim=-1, keepdim=True)
        inverse_BTX1 = length_BTX1.square_().mul_(1 / x_BTXE.shape[-1]).add_(eps).rsqrt_()
        gain_XE = _of_heads(gains, ctx.heads)
        ctx.save_for_backward(turn_BTXF, inverse_BTX1, gain_XE, *tensors)
        x_BTXE.mul_(inverse_BTX1).mul_(gain_XE)
        _pairs(x_BTXE).mul_(turn_BTXF)
        return tuple(
            y_BTHE.transpose(1, 2).to(
                tensors[0].dtype, copy=True, memory_format=torch.contiguous_format
            )
            for y_BTHE in x_BTXE.split(ctx.heads, dim=2)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        turn_BTXF, inverse_BTX1, gain_XE, *tensors = ctx.saved_tensors
        dtype, wide = tensors[0].dtype, turn_BTXF.dtype.to_real()
        dy_BTXE = _together([dy_BHTE.transpose(1, 2) for dy_BHTE in gradients], wide)
        _pairs(dy_BTXE).mul_(turn_BTXF.conj())
        unit_BTXE = _together(tensors, wide).mul_(inverse_BTX1)
        product_BTXE = dy_BTXE * unit_BTXE
        d_gain_XE = product_BTXE.flatten(2).flatten(0, 1).sum(0).view_as(gain_XE)
        d_gains = [d_gain_HE.sum(0) for d_gain_HE in d_gain_XE.split(ctx.heads)]
        mean_BTX1 = product_BTXE.mul_(gain_XE).mean(-1, keepdim=True)
        dx_BTXE = dy_BTXE.mul_(gain_XE).addcmul_(unit_BTXE, mean_BTX1, value=-1)
        dx_BTXE = dx_BTXE.mul_(inverse_BTX1).to(dtype)
        return None, None, None, *dx_BTXE.split(ctx.heads, dim=2), *d_gains


def _together(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Copy x_BTHE of every tensor into one x_BTXE of this type."""
    heads = [x_BTHE.shape[2] for x_BTHE in tensors]
    B, T, _, E = tensors[0].shape
    x_BTXE = tensors[0].new_empty(B, T, sum(heads), E, dtype=dtype)
    for part_BTHE, x_BTHE in zip(x_BTXE.split(heads, dim=2), tensors, strict=True):
        part_BTHE.copy_(x_BTHE)
    return x_BTXE


def _of_heads(gains: Sequence[Tensor], heads: Sequence[int]) -> Tensor:
    return torch.cat([gain_E.expand(n, -1) for gain_E, n in zip(gains, heads, strict=True)])


def _pairs(x_BTXE: Tensor) -> Tensor:
    return torch.view_as_complex(x_BTXE.unflatten(-1, (-1, 2)))
