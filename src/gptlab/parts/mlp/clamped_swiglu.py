"""SwiGLU within limits and around up + 1, as in the experts of GPT-OSS (arXiv:2508.10925).

down(g * sigmoid(alpha * g) * (u + 1)), with g = min(gate x, limit) and u = up x, cut off on both
sides.

B batch, T tokens, D d_model, F d_ff.
"""

from pydantic import PositiveFloat
from torch import Tensor, nn

from gptlab.parts.mlp._gated import GatedSettings
from gptlab.parts.needs import Needs


class ClampedSwiGLU(GatedSettings):
    """`limit`: where gate and up are cut off. `alpha`: how sharp the bend is; 1 is SiLU's.

    See also the settings of the gated MLP.
    """

    limit: PositiveFloat = 7.0
    alpha: PositiveFloat = 1.702

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return self.assemble(needs, self.gating)

    def gating(self, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return gate * (self.alpha * gate).sigmoid() * (up + 1)
