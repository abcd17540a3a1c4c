"""Norms of queries and keys, and their order with the rotation (arXiv:2010.04245).

B batch, T tokens, H heads, X heads of queries and keys, E d_head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from gptlab.kernels.normed_rotation import norm_and_rotate
from gptlab.kernels.rms_norm import gain, gain_then_round
from gptlab.parts.context import Context
from gptlab.parts.layers import Projection, Reordered
from gptlab.parts.norm import Norm
from gptlab.parts.norm.rms_norm import RMSNormLayer
from gptlab.parts.positions import PositionScheme
from gptlab.parts.positions.rotary import RotaryPositions

Rotate = Callable[[Tensor, Context], Tensor]
Over = Literal["head", "width"]


def check_norm(norm: Norm | None, over: Over, after_rotation: bool) -> None:
    """Raise ValueError for settings of a norm that is not there."""
    if norm is None and (over != "head" or after_rotation):
        raise ValueError(
            f"model.attention.qk_norm_over={over} and qk_norm_after_rotation="
            f"{str(after_rotation).lower()} mean nothing with qk_norm=null; name "
            "a norm such as model.attention.qk_norm=rms_norm"
        )


def build_norm(norm: Norm | None, over: Over, n_heads: int, d_head: int) -> nn.Module:
    """Build the norm of queries or keys, which maps x_BTHE to x_BTHE."""
    if norm is None:
        return nn.Identity()
    if over == "width":
        return OverWidth(norm.build(n_heads * d_head))
    return norm.build(d_head)


class OverWidth(nn.Module):
    """A norm over all heads at once, as in OLMo 2 (arXiv:2501.00656)."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def forward(self, x_BTHE: Tensor) -> Tensor:
        return self.norm(x_BTHE.flatten(-2)).view_as(x_BTHE)


def norm_then_rotate(x_BTHE: Tensor, norm: nn.Module, rotate: Rotate, context: Context) -> Tensor:
    return rotate(norm(x_BTHE), context)


def rotate_then_norm(x_BTHE: Tensor, norm: nn.Module, rotate: Rotate, context: Context) -> Tensor:
    return norm(rotate(x_BTHE, context))


def build_mark(
    norms: Sequence[nn.Module], positions: PositionScheme, d_head: int, after_rotation: bool
) -> "OneByOne | AtOnce":
    """Build what makes heads of queries and keys, and norms and rotates them."""
    mark = rotate_then_norm if after_rotation else norm_then_rotate
    one_by_one = OneByOne(mark, positions.rotate)
    if not (isinstance(positions, RotaryPositions) and positions.turns(d_head)):
        return one_by_one
    are_usual = all(isinstance(n, RMSNormLayer) and n.norm is gain_then_round for n in norms)
    return AtOnce(positions, one_by_one) if are_usual and not after_rotation else one_by_one


@dataclass(frozen=True)
class OneByOne:
    """`mark`: `norm_then_rotate` or `rotate_then_norm`."""

    mark: Callable[[Tensor, nn.Module, Rotate, Context], Tensor]
    rotate: Rotate

    @property
    def one_by_one(self) -> Self:
        return self

    def for_pass(self, x_BTD: Tensor, context: Context) -> Self:
        return self

    def projections(self, layers: Sequence[nn.Linear], d_head: int) -> Sequence[nn.Linear]:
        """Give those that make queries and keys as this wants them."""
        return layers

    def __call__(
        self, tensors: Sequence[Tensor], norms: Sequence[nn.Module], context: Context
    ) -> Sequence[Tensor]:
        """Norm and rotate x_BTHE of queries and of keys; give y_BHTE of each."""
        return [
            self.mark(x_BTHE, norm, self.rotate, context).transpose(1, 2)
            for x_BTHE, norm in zip(tensors, norms, strict=True)
        ]


@dataclass(frozen=True)
class AtOnce:
    """RMSNorm and the rotation of whole heads: one operation in training on a CPU.

    The projections' outputs are put in an order in which the numbers of a pair are neighbours;
    the scores of queries with keys are the same in any order. Weights are copied for it, which
    few rows do not repay.
    """

    positions: RotaryPositions
    one_by_one: OneByOne

    def for_pass(self, x_BTD: Tensor, context: Context) -> "OneByOne | AtOnce":
        """Choose for a pass: a cache is written and read in the usual order."""
        is_trained = x_BTD.is_cpu and torch.is_grad_enabled() and context.caches is None
        is_worth_it = x_BTD.numel() >= x_BTD.shape[-1] ** 2  # numbers, beside those of a matrix
        is_eager = not torch.compiler.is_compiling()
        return self if is_trained and is_worth_it and is_eager else self.one_by_one

    def projections(self, layers: Sequence[nn.Linear], d_head: int) -> Sequence[Projection]:
        order = partial(self.positions.as_neighbours, d_head=d_head)
        return [Reordered(layer, order) for layer in layers]

    def __call__(
        self, tensors: Sequence[Tensor], norms: Sequence[Any], context: Context
    ) -> Sequence[Tensor]:
        X, E = sum(x_BTHE.shape[2] for x_BTHE in tensors), tensors[0].shape[-1]
        turn_BTXF = self.positions.turns_of_heads(tensors[0], X, context)
        gains = [self.positions.as_neighbours(gain(n.weight, n.offset), E) for n in norms]
        return norm_and_rotate(tensors, gains, norms[0].eps, turn_BTXF)
