"""The norm of queries and keys and their rotation in one, with a gradient written out, for CPUs.

y = rotate(gain * x / sqrt(mean(x^2) + eps)), computed in float32 at least. A small model pays for
each operation, so that the heads of queries and keys are one tensor in between.

B batch, T tokens, H heads of a tensor, X heads of all tensors, E d_head.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm

Members = Callable[[Tensor], tuple[Tensor, Tensor]]


def norm_and_rotate(
    tensors: Sequence[Tensor],
    gains: Sequence[Tensor],
    eps: float,
    cos_BTXE: Tensor,
    sin_BTXE: Tensor,
    members: Members,
) -> Sequence[Tensor]:
    """Norm and rotate x_BTHE of every tensor, with a gain_E for each; gives y_BHTE.

    cos, sin: for all heads, or as BT1E for each. members: views the first and the second members
    of all pairs.
    """
    gain_XE = torch.cat(
        [gain.expand(x.shape[2], -1) for gain, x in zip(gains, tensors, strict=True)]
    )
    return NormedRotation.apply(gain_XE, eps, cos_BTXE, sin_BTXE, members, *tensors)


class NormedRotation(Function):
    @staticmethod
    def forward(
        ctx: Any,
        gain_XE: Tensor,
        eps: float,
        cos_BTXE: Tensor,
        sin_BTXE: Tensor,
        members: Members,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x_BTXE = torch.cat(tensors, dim=2)
        wide_BTXE = x_BTXE.to(cos_BTXE.dtype)
        length_BTX1 = vector_norm(wide_BTXE, dim=-1, keepdim=True)
        inverse_BTX1 = length_BTX1.square_().mul_(1 / x_BTXE.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(gain_XE, cos_BTXE, sin_BTXE, x_BTXE, inverse_BTX1)
        ctx.members, ctx.heads = members, [x.shape[2] for x in tensors]
        y_BTXE = _turned((wide_BTXE * inverse_BTX1).mul_(gain_XE), cos_BTXE, sin_BTXE, members, 1)
        return tuple(
            _copied(y_BTHE.transpose(1, 2), x_BTXE.dtype)
            for y_BTHE in y_BTXE.split(ctx.heads, dim=2)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gain_XE, cos_BTXE, sin_BTXE, x_BTXE, inverse_BTX1 = ctx.saved_tensors
        dy_BTXE = torch.cat([dy_BHTE.transpose(1, 2) for dy_BHTE in gradients], dim=2)
        dy_BTXE = _turned(dy_BTXE.to(cos_BTXE.dtype), cos_BTXE, sin_BTXE, ctx.members, -1)
        unit_BTXE = x_BTXE * inverse_BTX1
        product_BTXE = dy_BTXE * unit_BTXE
        d_gain_XE = product_BTXE.flatten(2).flatten(0, 1).sum(0).view_as(gain_XE)
        mean_BTX1 = product_BTXE.mul_(gain_XE).mean(-1, keepdim=True)
        dx_BTXE = dy_BTXE.mul_(gain_XE).addcmul_(unit_BTXE, mean_BTX1, value=-1)
        dx_BTXE = dx_BTXE.mul_(inverse_BTX1).to(x_BTXE.dtype)
        return d_gain_XE, None, None, None, None, *dx_BTXE.split(ctx.heads, dim=2)


def _copied(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype, copy=True, memory_format=torch.contiguous_format)


def _turned(
    x_BTXE: Tensor, cos_BTXE: Tensor, sin_BTXE: Tensor, members: Members, direction: int
) -> Tensor:
    """Turn every pair (a, b), or turn it back."""
    y_BTXE = x_BTXE * cos_BTXE
    (from_a, from_b), (a, b), (sin, _) = members(y_BTXE), members(x_BTXE), members(sin_BTXE)
    from_a.addcmul_(b, sin, value=-direction)
    from_b.addcmul_(a, sin, value=direction)
    return y_BTXE
