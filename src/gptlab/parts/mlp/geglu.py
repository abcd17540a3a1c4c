"""GeGLU: an MLP gated by GELU in its tanh form (arXiv:2002.05202), as in Gemma."""

from torch import nn

from gptlab.kernels.gating import geglu
from gptlab.parts.mlp._gated import GatedSettings
from gptlab.parts.needs import Needs


class GeGLU(GatedSettings):
    """See the settings of the gated MLP."""

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return self.assemble(needs, geglu)
