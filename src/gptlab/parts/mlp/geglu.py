"""GeGLU: an MLP gated by GELU in its tanh form (arXiv:2002.05202), as in Gemma."""

from torch import Tensor, nn
from torch.nn.functional import gelu

from gptlab.parts.mlp._gated import GatedSettings
from gptlab.parts.needs import Needs


class GeGLU(GatedSettings):
    """See the settings of the gated MLP."""

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return self.assemble(needs, geglu)


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up."""
    return gelu(gate, approximate="tanh") * up
