"""Normalized: h <- norm(h + |alpha| * (norm(F(h)) - h)), and no norm before the head (nGPT).

nGPT (arXiv:2410.01131): with `norm=l2` the stream stays on the unit sphere, and a branch says where
it should move. alpha is a learned step per number of the stream, one vector per branch. nGPT whole
takes more than this: recipe `ngpt`.

B batch, T tokens, D d_model.
"""

from collections.abc import Sequence

from pydantic import PositiveFloat
from torch import Tensor, nn

from gptlab.parts.layers import Scale
from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Ends, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut


class Normalized(Residual):
    """The norm is the model's.

    `alpha_start`: where alpha starts. `alpha_scale`: of its steps, see `layers.Scale`; null means
    d_model^-0.5.
    """

    alpha_start: PositiveFloat = 0.05
    alpha_scale: PositiveFloat | None = None

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        return NormalizedResidual(needs, n_branches, self.alpha_start, self.alpha_scale)

    def build_ends(self, needs: Needs) -> Ends:
        return Ends(nn.Identity())

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        norm_after = (f" {norm} ", " " * (len(norm) + 2))
        ways = [shortcut([branch, norm, "× α"], "× 1 - α") for branch in branches]
        return in_a_row([piece for way in ways for piece in (way, norm_after)])


class NormalizedResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int, start: float, scale: float | None):
        super().__init__()
        D, n = needs.d_model, range(n_branches)
        self.norms = nn.ModuleList(needs.norm.build(D) for _ in n)
        self.output_norms = nn.ModuleList(needs.norm.build(D) for _ in n)
        self.alphas = nn.ModuleList(Scale((D,), start, scale or D**-0.5) for _ in n)

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        parts = zip(self.norms, self.output_norms, self.alphas, branches, strict=True)
        for norm, output_norm, alpha_D, branch in parts:
            step_BTD = alpha_D().abs() * (output_norm(branch(x_BTD)) - x_BTD)
            x_BTD = norm(x_BTD + step_BTD)
        return x_BTD
