"""Rotate pairs of dimensions, (a, b) -> (a cos - b sin, b cos + a sin).

Angles are given for the first R dimensions of a head, or for all; the rest stays as it is.

B batch, T tokens, H heads, E d_head, R dimensions in pairs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Pairs = Callable[[Tensor], tuple[Tensor, Tensor]]


def rotate_half(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    """Rotate the pairs (i, i + R/2)."""
    return _rotate(x_BTHE, cos_BT1R, sin_BT1R, halves, turn_half)


def rotate_interleaved(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1)."""
    return _rotate(x_BTHE, cos_BT1R, sin_BT1R, neighbours, turn_interleaved)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second members of the pairs (i, i + R/2)."""
    a, b = x.chunk(2, dim=-1)
    return a, b


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the second members of the pairs (2i, 2i + 1)."""
    return x[..., 0::2], x[..., 1::2]


def turn_half(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (i, i + R/2)."""
    a, b = halves(x)
    return torch.cat([-b, a], dim=-1)


def turn_interleaved(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (2i, 2i + 1)."""
    a, b = neighbours(x)
    return torch.stack([-b, a], dim=-1).flatten(-2)


class Rotation(Function):
    """The rotation and its gradient, the rotation back, in few passes over memory, for CPUs.

    Both members of a pair have one angle.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BTHR: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor, pairs: Pairs
    ) -> Tensor:
        ctx.save_for_backward(cos_BT1R, sin_BT1R)
        ctx.pairs = pairs
        return _turned(x_BTHR, cos_BT1R, sin_BT1R, pairs, 1)

    @staticmethod
    def backward(ctx: Any, dy_BTHR: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _turned(dy_BTHR, *ctx.saved_tensors, ctx.pairs, -1), None, None, None


def _turned(
    x_BTHR: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor, pairs: Pairs, direction: int
) -> Tensor:
    y_BTHR = x_BTHR * cos_BT1R
    (a, b), (from_a, from_b), (sin_a, sin_b) = pairs(x_BTHR), pairs(y_BTHR), pairs(sin_BT1R)
    from_a.addcmul_(b, sin_a, value=-direction)
    from_b.addcmul_(a, sin_b, value=direction)
    return y_BTHR


def _rotate(
    x_BTHE: Tensor,
    cos_BT1R: Tensor,
    sin_BT1R: Tensor,
    pairs: Pairs,
    turn: Callable[[Tensor], Tensor],
) -> Tensor:
    R = cos_BT1R.shape[-1]
    if x_BTHE.shape[-1] > R:
        x_BTHR, rest = x_BTHE[..., :R], x_BTHE[..., R:]
        return torch.cat([_rotate(x_BTHR, cos_BT1R, sin_BT1R, pairs, turn), rest], dim=-1)
    if x_BTHE.is_cpu and x_BTHE.requires_grad:
        return Rotation.apply(x_BTHE, cos_BT1R, sin_BT1R, pairs)
    return x_BTHE * cos_BT1R + turn(x_BTHE) * sin_BT1R
