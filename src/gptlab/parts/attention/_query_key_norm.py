"""Norms of queries and keys, and their order with the rotation (arXiv:2010.04245).

B batch, T tokens, H heads, E d_head.
"""

from collections.abc import Callable

from torch import Tensor, nn

from gptlab.parts.context import Context

Rotate = Callable[[Tensor, Context], Tensor]


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
