"""The plain MLP: widen, activate, narrow.  B batch, T tokens, D d_model, F d_ff."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear
from gptlab.parts.mlp import MLP
from gptlab.parts.needs import Needs

Activation = Callable[[Tensor], Tensor]


class PlainSettings(MLP):
    """`d_ff`: the inner width, null means 4 * d_model. `bias`: whether projections have one."""

    d_ff: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    bias: bool = False

    def assemble(self, needs: Needs, activation: Activation) -> nn.Module:
        """Build with this activation; the variants call it."""
        return PlainMLP(needs, self.d_ff or 4 * needs.d_model, self.bias, activation)


class PlainMLP(nn.Module):
    def __init__(self, needs: Needs, d_ff: int, bias: bool, activation: Activation):
        super().__init__()
        self.up = Linear(needs.d_model, d_ff, "input", bias)
        self.down = Linear(d_ff, needs.d_model, "output", bias)
        self.activation, self.dropout = activation, Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        return self.dropout(self.down(self.activation(self.up(x_BTD))))
