"""Post-norm: norm(x + F(x)), and no norm before the head (arXiv:1706.03762, GPT-1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Ends, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class PostNorm(Residual):
    """Has no settings."""

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return PostNormResidual(needs, n_branches)

    def build_ends(self, needs: Needs) -> Ends:
        return Ends(nn.Identity())

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        norm_after = (f" {norm} ", " " * (len(norm) + 2))
        return in_a_row(
            [piece for branch in branches for piece in (shortcut([branch]), norm_after)]
        )


class PostNormResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        for norm, branch in zip(self.norms, branches, strict=True):
            x_BTD = norm(x_BTD + branch(x_BTD))
        return x_BTD
