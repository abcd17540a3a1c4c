"""Rotary: rotate pairs of query and key dimensions by an angle that grows with t.

RoFormer, arXiv:2104.09864: (a, b) -> (a cos - b sin, b cos + a sin) with the angle
t * base^(-2i/R), so that a score depends on the distance only. Angles are computed in float32:
bfloat16 cannot count beyond 256.

B batch, T tokens, H heads, E d_head, R rotated dimensions.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from gptlab.parts.context import Context
from gptlab.parts.positions import Positions, PositionScheme


class Rotary(Positions):
    """The rotation's settings.

    `layout`: which dimensions form a pair: `half` (i, i + R/2) as in GPT-NeoX and Hugging Face's
    Llama, or `interleaved` (2i, 2i + 1) as in the paper, GPT-J and Meta's Llama.
    `fraction`: the part of each head that is rotated, from its first dimension on.
    """

    base: PositiveFloat = 10_000.0
    layout: Literal["half", "interleaved"] = "half"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        return RotaryPositions(self.base, self.layout, self.fraction)


class RotaryPositions(PositionScheme):
    def __init__(self, base: float, layout: str, fraction: float):
        super().__init__()
        self.base, self.fraction = base, fraction
        self.turn = {"half": turn_half, "interleaved": turn_interleaved}[layout]
        self.spread = {"half": spread_half, "interleaved": spread_interleaved}[layout]

    def check_head(self, d_head: int) -> None:
        R = int(d_head * self.fraction)
        if R < 2 or R % 2:
            raise ValueError(
                f"model.positions.fraction={self.fraction} of d_head={d_head} leaves {R} "
                "dimensions to rotate; they must be even and at least 2"
            )

    def rotate(self, x_BTHE: Tensor, context: Context) -> Tensor:
        R = int(x_BTHE.shape[-1] * self.fraction)
        cos_T1R, sin_T1R = context.once(
            (self, R, x_BTHE.dtype), lambda: self.angles(x_BTHE, R, context)
        )
        if x_BTHE.shape[-1] == R:
            return x_BTHE * cos_T1R + self.turn(x_BTHE) * sin_T1R
        x_BTHR, rest = x_BTHE[..., :R], x_BTHE[..., R:]
        return torch.cat([x_BTHR * cos_T1R + self.turn(x_BTHR) * sin_T1R, rest], dim=-1)

    def angles(self, like: Tensor, R: int, context: Context) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every position's angles, ready to multiply (B)THE tensors."""
        exponent = torch.arange(0, R, 2, device=like.device, dtype=torch.float32) / R
        angle = context.positions_T.float()[..., None] * self.base**-exponent
        angle_T1R = self.spread(angle)[..., None, :]
        return angle_T1R.cos().to(like.dtype), angle_T1R.sin().to(like.dtype)


def turn_half(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (i, i + R/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


def turn_interleaved(x: Tensor) -> Tensor:
    """(a, b) -> (-b, a) for the pairs (2i, 2i + 1)."""
    return torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)


def spread_half(angle: Tensor) -> Tensor:
    """Give both members of a pair (i, i + R/2) their angle."""
    return torch.cat([angle, angle], dim=-1)


def spread_interleaved(angle: Tensor) -> Tensor:
    """Give both members of a pair (2i, 2i + 1) their angle."""
    return angle.repeat_interleave(2, dim=-1)
