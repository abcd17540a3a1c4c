"""What a part may ask of the model it is built into."""

from dataclasses import dataclass

from gptlab.parts.norm import Norm
from gptlab.parts.positions import PositionScheme


@dataclass(frozen=True)
class Needs:
    """The model's sizes, its norm, and its positions, for parts that are built once per layer."""

    d_model: int
    n_layers: int
    context_length: int
    dropout: float
    norm: Norm
    positions: PositionScheme
