"""SwiGLU with a learned gain per inner number, its gate widened by sqrt(d_model) (nGPT).

down(silu(s_v * sqrt(d_model) * gate x) * (s_u * up x))    (arXiv:2410.01131)

For x and rows of length 1 the products are cosines, of about 1/sqrt(d_model): without the root silu
would see next to nothing of its bend.

B batch, T tokens, D d_model, F d_ff.
"""

import math

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import silu

from gptlab.parts.context import Context
from gptlab.parts.layers import Scale
from gptlab.parts.mlp._gated import GatedMLP, GatedSettings
from gptlab.parts.needs import Needs


class NormalizedSwiGLU(GatedSettings):
    """The settings of a gated MLP, and those of its gains: s_u behind `up`, s_v behind `gate`.

    `s_u_start`, `s_v_start`: where they start. `s_u_scale`, `s_v_scale`: of their steps, see
    `layers.Scale`.
    """

    s_u_start: PositiveFloat = 1.0
    s_u_scale: PositiveFloat = 1.0
    s_v_start: PositiveFloat = 1.0
    s_v_scale: PositiveFloat = 1.0

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return NormalizedGatedMLP(self, needs)


class NormalizedGatedMLP(GatedMLP):
    def __init__(self, config: NormalizedSwiGLU, needs: Needs):
        d_ff = config.width(needs.d_model)
        super().__init__(needs, d_ff, config.bias, silu)
        self.s_u = Scale((d_ff,), config.s_u_start, config.s_u_scale)
        self.s_v = Scale((d_ff,), config.s_v_start, config.s_v_scale)
        self.widening = math.sqrt(needs.d_model)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        gate_BTF = self.activation(self.s_v() * self.widening * self.gate(x_BTD))
        return self.dropout(self.down(gate_BTF * (self.s_u() * self.up(x_BTD))))
