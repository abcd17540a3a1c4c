"""MLP: what a token makes of what it has read.

Contract: `build(needs, layer)` gives a module that maps (x_BTD, context) to y_BTD, token by token.

B batch, T tokens, D d_model, F d_ff.
"""

from abc import abstractmethod

from torch import nn

from gptlab.config import Part
from gptlab.parts.needs import Needs


class MLP(Part):
    """The slot `mlp`."""

    @abstractmethod
    def build(self, needs: Needs, layer: int) -> nn.Module:
        """Build the MLP of one layer."""
