"""The gated MLP: down(gating(gate x, up x)), mostly activation(gate x) * (up x) (arXiv:2002.05202).

B batch, T tokens, D d_model, F d_ff.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear, side_by_side
from gptlab.parts.mlp import MLP
from gptlab.parts.needs import Needs

Gating = Callable[[Tensor, Tensor], Tensor]


class GatedSettings(MLP):
    """The settings of a gated MLP.

    `d_ff`: the inner width; null means 8/3 * d_model rounded up to a multiple of `multiple_of`, so
    that three matrices have the parameters of a plain MLP's two with 4 * d_model.
    `bias`: whether the three projections have biases.
    """

    d_ff: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    multiple_of: Annotated[int, Field(gt=0, le=100_000)] = 8
    bias: bool = False

    def assemble(self, needs: Needs, gating: Gating) -> nn.Module:
        """Build with this gating; the variants call it."""
        return GatedMLP(needs, self.width(needs.d_model), self.bias, gating)

    def width(self, d_model: int) -> int:
        """Give the inner width."""
        return self.d_ff or -(-8 * d_model // (3 * self.multiple_of)) * self.multiple_of


class GatedMLP(nn.Module):
    def __init__(self, needs: Needs, d_ff: int, bias: bool, gating: Gating):
        super().__init__()
        self.gate = Linear(needs.d_model, d_ff, "input", bias)
        self.up = Linear(needs.d_model, d_ff, "input", bias)
        self.down = Linear(d_ff, needs.d_model, "output", bias)
        self.gating, self.dropout = gating, Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        gate, up = side_by_side(x_BTD, self.gate, self.up)
        return self.dropout(self.down(self.gating(gate, up)))
