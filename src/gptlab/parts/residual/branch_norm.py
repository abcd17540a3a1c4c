"""Branch norm: x + norm(F(x)), and a norm before the head (OLMo 2, arXiv:2501.00656).

What a branch adds is normed, not what it reads: the stream itself is never rescaled.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class BranchNorm(Residual):
    """Has no settings."""

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return BranchNormResidual(needs, n_branches)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        return in_a_row([shortcut([branch, norm]) for branch in branches])


class BranchNormResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        for norm, branch in zip(self.norms, branches, strict=True):
            x_BTD = x_BTD + norm(branch(x_BTD))
        return x_BTD
