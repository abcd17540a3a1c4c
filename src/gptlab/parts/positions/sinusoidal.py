"""Sinusoidal: sines and cosines of growing wavelength, added to the embedding (arXiv:1706.03762).

PE(t, 2i) = sin(t / base^(2i/D)), PE(t, 2i+1) = cos of the same angle. The paper multiplies the
token embeddings by sqrt(D) first, so that these do not drown in the positions; so does `scale`.

B batch, T tokens, D d_model.
"""

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor

from gptlab.parts.context import Context
from gptlab.parts.positions import Positions, PositionScheme


class Sinusoidal(Positions):
    """`base` sets the longest wavelength; `scale` multiplies token embeddings by sqrt(d_model)."""

    base: PositiveFloat = 10_000.0
    scale: bool = True

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        if d_model % 2:
            raise ValueError(f"model.d_model={d_model} must be even for sinusoidal positions")
        return SinusoidalPositions(d_model, self.base, math.sqrt(d_model) if self.scale else 1.0)


class SinusoidalPositions(PositionScheme):
    def __init__(self, d_model: int, base: float, scale: float):
        super().__init__()
        self.d_model, self.base, self.scale = d_model, base, scale

    def embed(self, x_BTD: Tensor, context: Context) -> Tensor:
        exponent = torch.arange(0, self.d_model, 2, device=x_BTD.device) / self.d_model
        angle = context.positions_BT.float()[..., None] * self.base**-exponent
        table_BTD = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return x_BTD * self.scale + table_BTD.to(x_BTD.dtype)
