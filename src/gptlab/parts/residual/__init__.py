"""Residual: how the branches of a block (attention, MLP) join the stream, and where norms stand.

Contract: `build(needs, layer, n_branches)` gives a module that maps (stream, *branches) to the
stream after the block, calling each branch once; `build_ends(needs)` gives what stands at both
ends of the stack: `open` makes a stream of the embeddings, `close` hands it to the head.
What the stream is between the ends is the part's own affair: x_BTD, several of them, a tuple.

B batch, T tokens, D d_model.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from gptlab.config import Part
from gptlab.parts.needs import Needs

Branch = Callable[[Tensor], Tensor]


class Residual(Part):
    """The slot `residual`."""

    @abstractmethod
    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        """Build the wiring of one block."""

    def build_ends(self, needs: Needs) -> "Ends":
        """Build both ends of the stack: by default, a norm before the head."""
        return Ends(needs.norm.build(needs.d_model))

    @abstractmethod
    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        """Draw the block as lines of text: the stream comes in on the left of the first line."""


class Ends(nn.Module):
    """Opens the stream after the embedding and closes it before the head."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def open(self, x_BTD: Tensor) -> Any:
        """Make a stream of the embeddings."""
        return x_BTD

    def close(self, stream: Any) -> Tensor:
        """Make of the stream what the head reads."""
        return self.norm(stream)
