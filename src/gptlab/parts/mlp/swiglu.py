"""SwiGLU: an MLP gated by SiLU (arXiv:2002.05202), as in Llama."""

from torch import nn

from gptlab.kernels.gating import swiglu
from gptlab.parts.mlp._gated import GatedSettings
from gptlab.parts.needs import Needs


class SwiGLU(GatedSettings):
    """See the settings of the gated MLP."""

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return self.assemble(needs, swiglu)
