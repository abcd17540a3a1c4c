"""Positions: how the model knows the order of tokens.

Contract: a scheme overrides the hook it needs; the others leave their input as it is.
The model's scheme is built once and shared by all layers; a layer may have one of its own, if that
leaves the embeddings alone.

B batch, T query tokens, S key tokens, D d_model, H heads, E d_head.
"""

from abc import abstractmethod

from torch import Tensor, nn

from gptlab.config import Part
from gptlab.kernels.attention import Bias
from gptlab.parts.context import Context


class Positions(Part):
    """The slot `positions`."""

    @abstractmethod
    def build(self, d_model: int, context_length: int) -> "PositionScheme":
        """Build the scheme for a model of this width and longest context."""


class PositionScheme(nn.Module):
    """No positions; the base of every scheme.

    `attention_factor`: by how much `rotate` makes queries and keys longer.
    """

    attention_factor: float = 1.0

    def embed(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Mark positions in the token embeddings."""
        return x_BTD

    @classmethod
    def marks_embeddings(cls) -> bool:
        """Whether it acts before any layer, and so cannot belong to one."""
        return cls.embed is not PositionScheme.embed

    def rotate(self, x_BTHE: Tensor, context: Context) -> Tensor:
        """Mark positions in queries or keys."""
        return x_BTHE

    def bias(self, n_heads: int) -> Bias | None:
        """Give the function of distance (query minus key position) that is added to the scores."""
        return None

    def check_head(self, d_head: int, setting: str = "model.positions") -> None:
        """Raise ValueError if heads of this width do not fit; called when a model is built.

        setting: the one that chose this scheme, for the message.
        """
