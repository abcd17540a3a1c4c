"""The norm of queries and keys and their rotation in one, with a gradient written out, for CPUs.

y = rotate(gain * x / sqrt(mean(x^2) + eps)), computed in float32 at least. A small model pays for
each operation, so that all heads of queries and keys are one tensor in between; there the first
members of the pairs lie apart from the second ones, and a rotation is four products in a row.

B batch, T tokens, H heads of a tensor, X heads of all tensors, E d_head, F = E/2 pairs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.linalg import vector_norm

Members = Callable[[Tensor], Tensor]


def halves(x: Tensor) -> Tensor:
    """View (..., E) as (2, ..., F): the members of the pairs (i, i + E/2)."""
    return x.unflatten(-1, (2, -1)).movedim(-2, 0)


def neighbours(x: Tensor) -> Tensor:
    """View (..., E) as (2, ..., F): the members of the pairs (2i, 2i + 1)."""
    return x.unflatten(-1, (-1, 2)).movedim(-1, 0)


def norm_and_rotate(
    tensors: Sequence[Tensor],
    gains: Sequence[Tensor],
    eps: float,
    cos_BTXF: Tensor,
    sin_BTXF: Tensor,
    members: Members,
) -> Sequence[Tensor]:
    """Norm and rotate x_BTHE of every tensor, with a gain for each; gives y_BHTE."""
    return NormedRotation.apply(eps, cos_BTXF, sin_BTXF, members, *tensors, *gains)


class NormedRotation(Function):
    @staticmethod
    def forward(
        ctx: Any, eps: float, cos: Tensor, sin: Tensor, members: Members, *given: Tensor
    ) -> tuple[Tensor, ...]:
        tensors, gains = given[: len(given) // 2], given[len(given) // 2 :]
        unit = _gathered(tensors, members, cos.dtype)
        squares = vector_norm(unit, dim=-1, keepdim=True).square_()
        width = tensors[0].shape[-1]
        inverse = (squares[0] + squares[1]).mul_(1 / width).add_(eps).rsqrt_()
        heads = [x.shape[2] for x in tensors]
        gain = torch.cat(
            [members(w.to(cos.dtype))[:, None].expand(-1, n, -1) for w, n in zip(gains, heads, strict=True)],
            dim=1,
        )[:, None, None]
        ctx.save_for_backward(cos, sin, inverse, gain, *tensors)
        ctx.members, ctx.types = members, [w.dtype for w in gains]
        y = _turned(unit.mul_(inverse).mul_(gain), cos, sin, 1)
        turned = [x.new_empty(x.transpose(1, 2).shape) for x in tensors]
        for each, part in zip(turned, y.split(heads, dim=3), strict=True):
            members(each.transpose(1, 2)).copy_(part)
        return tuple(turned)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin, inverse, gain, *tensors = ctx.saved_tensors
        members, heads = ctx.members, [x.shape[2] for x in tensors]
        unit = _gathered(tensors, members, cos.dtype).mul_(inverse)
        dy = _gathered([each.transpose(1, 2) for each in gradients], members, cos.dtype)
        d = _turned(dy, cos, sin, -1)
        product = torch.mul(d, unit, out=dy)
        d_gain = product.flatten(3).flatten(1, 2).sum(1).unflatten(-1, gain.shape[3:])
        along = product.mul_(gain).sum(-1, keepdim=True)
        mean = (along[0] + along[1]).mul_(1 / tensors[0].shape[-1])
        dx = d.mul_(gain).addcmul_(unit, mean, value=-1).mul_(inverse)
        B, T, X, F = dx.shape[1:]
        joint = tensors[0].new_empty(B, T, X, 2 * F)
        members(joint).copy_(dx)
        d_gains = []
        for part, dtype in zip(d_gain.split(heads, dim=1), ctx.types, strict=True):
            each = part.new_empty(2 * F)
            members(each).copy_(part.sum(1))
            d_gains.append(each.to(dtype))
        return None, None, None, None, *joint.split(heads, dim=2), *d_gains


def _gathered(tensors: Sequence[Tensor], members: Members, dtype: torch.dtype) -> Tensor:
    """Copy x_BTHE of all tensors into one (2, B, T, X, F)."""
    parts = [members(x) for x in tensors]
    X = sum(part.shape[3] for part in parts)
    first = parts[0]
    together = first.new_empty(*first.shape[:3], X, first.shape[-1], dtype=dtype)
    for place, part in zip(together.split([p.shape[3] for p in parts], dim=3), parts, strict=True):
        place.copy_(part)
    return together


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """Turn the pairs of (2, B, T, X, F), or turn them back."""
    y = torch.empty_like(x)
    torch.mul(x[0], cos, out=y[0]).addcmul_(x[1], sin, value=-direction)
    torch.mul(x[1], cos, out=y[1]).addcmul_(x[0], sin, value=direction)
    return y
