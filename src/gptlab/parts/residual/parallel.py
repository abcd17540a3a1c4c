"""Parallel: x + F(norm(x)) + G(norm(x)), all branches at once, and a norm before the head.

With one norm as in GPT-J, PaLM (arXiv:2204.02311) and Cohere, or with one for each branch as in
GPT-NeoX (arXiv:2204.06745).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Residual


class Parallel(Residual):
    """`own_norms`: whether every branch has a norm of its own."""

    own_norms: bool = False

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        if self.own_norms:
            return ParallelNormsResidual(needs, n_branches)
        return ParallelResidual(needs)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        width = max(map(len, branches))
        first, *others = (f"{branch} {'─' * (width - len(branch))}" for branch in branches)
        if self.own_norms:
            first, others = f"{norm} ─ {first}", [f"{norm} ─ {branch}" for branch in others]
            around = len(norm) + width + 9
            return [
                f"x ─┬─┬─ {first}─ ⊕ ─ x",
                *(f"   │ ├─ {branch}──┤" for branch in others),
                f"   └─{'─' * around}┘",
            ]
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


class ParallelNormsResidual(nn.Module):
    def __init__(self, needs: Needs, n_branches: int):
        super().__init__()
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in range(n_branches))

    def forward(self, x_BTD: Tensor, *branches: Branch) -> Tensor:
        added = [branch(norm(x_BTD)) for norm, branch in zip(self.norms, branches, strict=True)]
        return x_BTD + sum(added)
