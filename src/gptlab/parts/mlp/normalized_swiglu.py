"""SwiGLU with a learned gain per inner number, its gate widened by sqrt(d_model) (nGPT).

down(silu(s_v * sqrt(d_model) * gate x) * (s_u * up x))    (arXiv:2410.01131)

For x and rows of length 1 the products are cosines, of about 1/sqrt(d_model): without the root silu
would see next to nothing of its bend.

B batch, T tokens, F d_ff.
"""

import math

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import silu

from gptlab.parts.layers import Scale
from gptlab.parts.mlp._gated import GatedSettings
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
        return self.assemble(needs, NormalizedGating(self, needs.d_model))


class NormalizedGating(nn.Module):
    def __init__(self, config: NormalizedSwiGLU, d_model: int):
        super().__init__()
        shape, self.widening = (config.width(d_model),), math.sqrt(d_model)
        self.s_u = Scale(shape, config.s_u_start, config.s_u_scale)
        self.s_v = Scale(shape, config.s_v_start, config.s_v_scale)

    def forward(self, gate_BTF: Tensor, up_BTF: Tensor) -> Tensor:
        return silu(self.s_v() * self.widening * gate_BTF) * (self.s_u() * up_BTF)
