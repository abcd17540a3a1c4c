"""Norms of queries and keys, and their order with the rotation (arXiv:2010.04245).

B batch, T tokens, H heads, E d_head.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from gptlab.parts.context import Context
from gptlab.parts.norm import Norm

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
