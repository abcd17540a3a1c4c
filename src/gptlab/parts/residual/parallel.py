"""Parallel: x + F(norm(x)) + G(norm(x)) with one norm, and a norm before the head.

As in GPT-J and PaLM (arXiv:2204.02311).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual


class Parallel(Residual):
    """Has no settings."""

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return ParallelResidual(needs)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        width = max(map(len, branches))
        first, *others = (f"{branch} {'─' * (width - len(branch))}" for branch in branches)
        indent = " " * (len(norm) + 4)
        return [
            f"x ─┬─ {norm} ─┬─ {first}─ ⊕ ─ x",
            *(f"   │{indent}├─ {branch}──┤" for branch in others),
            f"   └{'─' * (len(norm) + width + 9)}┘",
        ]


class ParallelResidual(nn.Module):
    def __init__(self, needs: Needs):
        super().__init__()
        self.norm = needs.norm.build(needs.d_model)

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        normed_BTD = self.norm(x_BTD)
        for branch in branches:
            x_BTD = x_BTD + branch(normed_BTD)
        return x_BTD
