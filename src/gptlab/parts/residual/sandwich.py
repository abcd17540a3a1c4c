"""Sandwich: x + norm(F(norm(x))), and a norm before the head (Gemma 2, arXiv:2408.00118)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class Sandwich(Residual):
    """Has no settings."""

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return SandwichResidual(needs, n_branches)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        return in_a_row([shortcut([norm, branch, norm]) for branch in branches])


class SandwichResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))
        self.output_norms = nn.ModuleList(
            needs.norm.build(needs.d_model) for _ in range(n_branches)
        )

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        for norm, output_norm, branch in zip(self.norms, self.output_norms, branches, strict=True):
            x_BTD = x_BTD + output_norm(branch(norm(x_BTD)))
        return x_BTD
