"""Learned: a trained vector per position, added to the token embedding (GPT-2).

It knows no position beyond `context_length`. B batch, T tokens, D d_model.
"""

from torch import Tensor

from gptlab.parts.context import Context
from gptlab.parts.layers import Embedding
from gptlab.parts.positions import Positions, PositionScheme


class Learned(Positions):
    """Has no settings."""

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        return LearnedPositions(d_model, context_length)


class LearnedPositions(PositionScheme):
    def __init__(self, d_model: int, context_length: int):
        super().__init__()
        self.table = Embedding(context_length, d_model, role="position")

    def embed(self, x_BTD: Tensor, context: Context) -> Tensor:
        return x_BTD + self.table(context.positions_BT)
