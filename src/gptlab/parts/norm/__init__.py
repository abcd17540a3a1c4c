"""Norm: keeps the scale of activations in hand.

Contract: `build(width)` gives a module that maps (..., width) to the same shape, token by token.
"""

from abc import abstractmethod

from torch import nn

from gptlab.config import Part


class Norm(Part):
    """The slot `norm`."""

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the norm for vectors of this width."""
