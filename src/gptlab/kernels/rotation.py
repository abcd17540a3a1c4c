"""Rotate pairs of dimensions, (a, b) -> (a cos - b sin, b cos + a sin).

Angles are given for the first R dimensions of a head, or for all; the rest stays as it is.

B batch, T tokens, H heads, E d_head, R dimensions in pairs.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def rotate_half(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    """Rotate the pairs (i, i + R/2)."""
    return _rotate(x_BTHE, cos_BT1R, sin_BT1R, turn_half)


def rotate_interleaved(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1)."""
    return _rotate(x_BTHE, cos_BT1R, sin_BT1R, turn_interleaved)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """View the first and the second members of the pairs (i, i + R/2)."""
    a, b = x.chunk(2, dim=-1)
    return a, b


def neighbours(x: Tensor) -> tuple[Tensor, Tensor]:
    """View the first and the second members of the pairs (2i, 2i + 1)."""
    return x[..., 0::2], x[..., 1::2]


def turn_half(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (i, i + R/2)."""
    a, b = halves(x)
    return torch.cat([-b, a], dim=-1)


def turn_interleaved(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (2i, 2i + 1)."""
    a, b = neighbours(x)
    return torch.stack([-b, a], dim=-1).flatten(-2)


def _rotate(
    x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor, turn: Callable[[Tensor], Tensor]
) -> Tensor:
    R = cos_BT1R.shape[-1]
    if x_BTHE.shape[-1] == R:
        return x_BTHE * cos_BT1R + turn(x_BTHE) * sin_BT1R
    x_BTHR, rest = x_BTHE[..., :R], x_BTHE[..., R:]
    return torch.cat([x_BTHR * cos_BT1R + turn(x_BTHR) * sin_BT1R, rest], dim=-1)
