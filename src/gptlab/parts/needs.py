"""What a part may ask of the model it is built into."""

from dataclasses import dataclass, field
from typing import Any

from gptlab.parts.norm import Norm
from gptlab.parts.positions import PositionScheme


@dataclass(frozen=True)
class Needs:
    """The model's sizes, its norm, and its positions, for parts that are built once per layer.

    offered: what a layer will hand to later ones through the context, noted while layers are built
    from first to last, so that one which finds nothing it can use is refused.
    used: what of the model's own some layer has taken, so that what none has taken is refused.
    """

    d_model: int
    n_layers: int
    context_length: int
    dropout: float
    norm: Norm
    positions: PositionScheme
    offered: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
