"""Scaled: x + s * F(norm(x)), and a norm before the head, with s learned or fixed.

* `learned=channel`: LayerScale, a vector per branch (arXiv:2103.17239). It starts small: 0.1 for
  up to 18 layers, 1e-5 for up to 24, 1e-6 beyond.
* `learned=branch scale=0`: ReZero, one number per branch (arXiv:2003.04887), which has no norm.
* `learned=null`: a fixed multiplier, as in Granite (0.22), or 1/sqrt(n_layers) for depth.

With scale 1 it starts as pre-norm.  B batch, T tokens, D d_model, N branches.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class Scaled(Residual):
    """`scale`: what s is, or starts from. `learned`: per `channel` or `branch`; null: fixed."""

    scale: Annotated[float, Field(ge=0)] = 0.1
    learned: Literal["channel", "branch"] | None = "channel"

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        if self.learned is None and self.scale == 0:
            raise ValueError(
                "model.residual.scale=0 with model.residual.learned=null switches every branch "
                "off for good; give a scale above 0, or learned=branch or learned=channel"
            )
        if self.learned is None:
            return ScaledResidual(needs, [self.scale] * n_branches)
        width = needs.d_model if self.learned == "channel" else 1
        return ScaledResidual(needs, nn.Parameter(torch.full((n_branches, width), self.scale)))

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        how = f"{self.scale:g}" if self.learned is None else f"s per {self.learned}"
        return in_a_row([shortcut([norm, branch, f"× {how}"]) for branch in branches])


class ScaledResidual(nn.Module):
    def __init__(self, needs: Needs, scales: nn.Parameter | list[float]):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in scales)
        self.scales = scales

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        for norm, scale, branch in zip(self.norms, self.scales, branches, strict=True):
            x_BTD = x_BTD + scale * branch(norm(x_BTD))
        return x_BTD
