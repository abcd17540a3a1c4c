"""Attention: how a token reads the tokens before it.

Contract: `build(needs, layer)` gives a `Mixer` that maps (x_BTD, context) to y_BTD, where y at t
never depends on x after t, and that owns its cache: the same output whether a text is read at once
or in pieces.

B batch, T tokens, D d_model.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from gptlab.config import Part
from gptlab.parts.context import Context
from gptlab.parts.needs import Needs


class Attention(Part):
    """The slot `attention`."""

    @abstractmethod
    def build(self, needs: Needs, layer: int) -> "Mixer":
        """Build the mixer of one layer. Raises ValueError for sizes that do not fit."""


class Mixer(nn.Module, ABC):
    """What an attention part builds."""

    @abstractmethod
    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Read the tokens before; `context.caches[layer]` holds this layer's cache, if any."""

    @abstractmethod
    def new_cache(self, capacity: int) -> Any:
        """Make an empty cache for a text of at most this many tokens."""

    @abstractmethod
    def score_flops(self, T: int) -> float:
        """FLOPs per token, forward, that are not those of a `Linear`: scores and their use."""

    def score_flops_of_all(self, T: int) -> float:
        """The same if every token saw all T, as PaLM counts (arXiv:2204.02311)."""
        return self.score_flops(1) * T
