"""Initial mix: x <- lambda * x + mu * x0 before each block, then pre-norm.

x0 is what the stream was opened with. lambda and mu are learned, two numbers per block, as in the
speedruns (github.com/KellerJordan/modded-nanogpt) and nanochat, which starts mu from 0.1. With
lambda 1 and mu 0 it starts as pre-norm.  B batch, T tokens, D d_model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Ends, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut

Stream = tuple[Tensor, Tensor]


class InitialMix(Residual):
    """`stream_weight`, `initial_weight`: what lambda and mu start from, in every block."""

    stream_weight: float = 1.0
    initial_weight: float = 0.0

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return InitialMixResidual(needs, n_branches, self.stream_weight, self.initial_weight)

    def build_ends(self, needs: Needs) -> Ends:
        return InitialMixEnds(needs.norm.build(needs.d_model))

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        mix = " λ x + μ x0 "
        return in_a_row([(mix, " " * len(mix)), *(shortcut([norm, branch]) for branch in branches)])


class InitialMixEnds(Ends):
    def open(self, x_BTD: Tensor) -> Stream:
        return x_BTD, x_BTD

    def close(self, stream: Stream) -> Tensor:
        return self.norm(stream[0])


class InitialMixResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int, stream_weight: float, initial_weight: float):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([stream_weight, initial_weight]))
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))

    def forward(self, stream: Stream, *branches: Branch) -> Stream:
        x_BTD, initial_BTD = stream
        x_BTD = self.weights[0] * x_BTD + self.weights[1] * initial_BTD
        for norm, branch in zip(self.norms, branches, strict=True):
            x_BTD = x_BTD + branch(norm(x_BTD))
        return x_BTD, initial_BTD
