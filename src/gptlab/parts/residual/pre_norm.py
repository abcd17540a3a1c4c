"""Pre-norm: x + F(norm(x)), and a norm before the head (GPT-2, Llama; arXiv:2002.04745)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class PreNorm(Residual):
    """Has no settings."""

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return PreNormResidual(needs, n_branches)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        return in_a_row([shortcut([norm, branch]) for branch in branches])


class PreNormResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        for norm, branch in zip(self.norms, branches, strict=True):
            x_BTD = x_BTD + branch(norm(x_BTD))
        return x_BTD
