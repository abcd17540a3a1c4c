"""Rotary: rotate pairs of query and key dimensions by an angle that grows with t.

RoFormer, arXiv:2104.09864: (a, b) -> (a cos - b sin, b cos + a sin) with the angle
t * base^(-2i/R), so that a score depends on the distance only. Angles are computed in float32:
bfloat16 cannot count beyond 256.

B batch, T tokens, H heads, E d_head, R dimensions in pairs, F = R/2 frequencies.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gptlab.kernels.rotation import halves, neighbours, rotate_half, rotate_interleaved
from gptlab.parts.context import Context
from gptlab.parts.positions import Positions, PositionScheme
from gptlab.parts.scaling import Scaling
from gptlab.parts.scaling._plain import Plain


class Rotary(Positions):
    """The rotation's settings.

    `layout`: which dimensions form a pair: `half` (i, i + R/2) as in GPT-NeoX and Hugging Face's
    Llama, or `interleaved` (2i, 2i + 1) as in the paper, GPT-J and Meta's Llama.
    `fraction`: the part of each head that is rotated.
    `proportional`: that part is the first pairs of the whole head, with the frequencies that they
    have there (Gemma 4), not the first dimensions, as if there were no others.
    `scaling`: slows the rotation for longer contexts; null: plain.
    """

    base: Annotated[float, Field(gt=1)] = 10_000.0
    layout: Literal["half", "interleaved"] = "half"
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    proportional: bool = False
    scaling: Scaling | None = None

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        return RotaryPositions(self, context_length)


class RotaryPositions(PositionScheme):
    def __init__(self, config: Rotary, context_length: int):
        super().__init__()
        self.config, self.context_length = config, context_length
        self.name = f"{config!r} {context_length}"  # layers of the same settings share angles
        self.turned = {"half": rotate_half, "interleaved": rotate_interleaved}[config.layout]
        self.spread = {"half": spread_half, "interleaved": spread_interleaved}[config.layout]
        self.members = {"half": halves, "interleaved": neighbours}[config.layout]
        self.as_neighbours = {"half": as_neighbours, "interleaved": as_they_are}[config.layout]
        self.scaling = config.scaling or Plain()
        self.attention_factor = self.scaling.attention_factor(context_length)

    def check_head(self, d_head: int, setting: str = "model.positions") -> None:
        if self.config.proportional and self.config.fraction == 1:
            raise ValueError(
                f"{setting}.proportional=true changes nothing at {setting}.fraction=1.0, which "
                "rotates every pair; give a smaller fraction"
            )
        R, n_turned = self.sizes(d_head)
        if R % 2 or n_turned < 1:
            raise ValueError(
                f"{setting}.fraction={self.config.fraction} of d_head={d_head} leaves "
                f"{R if R % 2 else 2 * n_turned} dimensions to rotate; they must be even and at "
                "least 2"
            )
        self.scaling.check(R // 2, f"{setting}.scaling")

    def rotate(self, x_BTHE: Tensor, context: Context) -> Tensor:
        d_head, dtype = x_BTHE.shape[-1], x_BTHE.dtype
        cos_BT1R, sin_BT1R = context.once(
            (self.name, d_head, dtype), lambda: self.angles(x_BTHE, context)
        )
        return self.turned(x_BTHE, cos_BT1R, sin_BT1R)

    def turns(self, d_head: int) -> bool:
        """Tell whether all dimensions of a head are in pairs."""
        return self.sizes(d_head)[0] == d_head

    def turns_of_heads(self, like: Tensor, X: int, context: Context) -> Tensor:
        """Every pair's rotation as a complex number, whose parts are float32 at least.

        As BTXF, written out for each of X heads, where there is one row for all texts; else as
        BT1F: that would be as much memory as queries and keys.
        """
        like = like[:0].to(torch.promote_types(like.dtype, torch.float32))

        def write_out() -> Tensor:
            cos_BT1F, sin_BT1F = (self.members(x)[0] for x in self.angles(like, context))
            n = X if len(cos_BT1F) == 1 else 1
            return torch.complex(cos_BT1F, sin_BT1F).repeat(1, 1, n, 1)

        return context.once((self.name, like.shape[-1], like.dtype, X), write_out)

    def angles(self, like: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every position's angles, ready to multiply BTHE tensors."""
        frequency_F = self.frequencies(like.shape[-1], like.device)
        angle = context.positions_BT.float()[..., None] * frequency_F
        angle_BT1R = self.spread(angle)[..., None, :]
        cos_BT1R = angle_BT1R.cos() * self.attention_factor
        return cos_BT1R.to(like.dtype), (angle_BT1R.sin() * self.attention_factor).to(like.dtype)

    def frequencies(self, d_head: int, device: torch.device) -> Tensor:
        """Radians per token of every pair, in float32."""
        R, n_turned = self.sizes(d_head)
        exponent_F = torch.arange(0, R, 2, device=device, dtype=torch.float32) / R
        plain_F = self.config.base**-exponent_F
        frequency_F = self.scaling.stretch(plain_F, self.config.base, self.context_length)
        return frequency_F * (torch.arange(R // 2, device=device) < n_turned)

    def sizes(self, d_head: int) -> tuple[int, int]:
        """How many dimensions are in pairs, and how many pairs turn."""
        if self.config.proportional:
            return d_head, int(d_head * self.config.fraction) // 2
        R = int(d_head * self.config.fraction)
        return R, R // 2


def spread_half(angle: Tensor) -> Tensor:
    """Give both members of a pair (i, i + R/2) their angle."""
    return torch.cat([angle, angle], dim=-1)


def spread_interleaved(angle: Tensor) -> Tensor:
    """Give both members of a pair (2i, 2i + 1) their angle."""
    return angle.repeat_interleave(2, dim=-1)


def as_neighbours(x: Tensor, d_head: int) -> Tensor:
    """Put the pairs (i, i + E/2) of every head next to each other, along the first axis."""
    return x.unflatten(0, (-1, 2, d_head // 2)).transpose(1, 2).flatten(0, 2)


def as_they_are(x: Tensor, d_head: int) -> Tensor:
    return x
