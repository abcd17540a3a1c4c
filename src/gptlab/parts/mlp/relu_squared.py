"""Widen, square of ReLU, narrow (Primer, arXiv:2109.08668)."""

from torch import Tensor, nn
from torch.nn.functional import relu

from gptlab.parts.mlp._plain import PlainSettings
from gptlab.parts.needs import Needs


class ReluSquared(PlainSettings):
    """See the settings of the plain MLP."""

    def build(self, needs: Needs, layer: int) -> nn.Module:
        return self.assemble(needs, relu_squared)


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)^2."""
    return relu(x).square()
