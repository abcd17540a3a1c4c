"""ALiBi: a penalty on the scores that grows with distance (arXiv:2108.12409).

Head h adds -slope_h * (t - s) to the scaled score. With a power of two heads the slopes are
2^(-8h/H), h = 1..H; otherwise they are those of the next lower power, then every other one of the
next higher, as in the paper's code.

B batch, H heads, T query tokens, S key tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gptlab.kernels.attention import Bias
from gptlab.parts.positions import Positions, PositionScheme


class Alibi(Positions):
    """Has no settings."""

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        return AlibiPositions()


class AlibiPositions(PositionScheme):
    def bias(self, n_heads: int) -> Bias:
        return Penalty(n_heads)


@dataclass(frozen=True)
class Penalty:
    """The same for as many heads, so that layers can share what is made of it."""

    n_heads: int

    def __call__(self, distance_BTS: Tensor) -> Tensor:
        slope_H = torch.tensor(slopes(self.n_heads), device=distance_BTS.device)
        return -slope_H[:, None, None] * distance_BTS[..., None, :, :]


def slopes(n_heads: int) -> list[float]:
    """The penalty per token of distance, for each head."""
    lower = 2 ** math.floor(math.log2(n_heads))
    first = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    rest = [2 ** (-4 * h / lower) for h in range(1, 2 * lower, 2)]
    return (first + rest)[:n_heads]
