"""No positions: order leaks in through the causal mask alone (arXiv:2305.19466)."""

from gptlab.parts.positions import Positions, PositionScheme


class NoPositions(Positions):
    """Has no settings."""

    def build(self, d_model: int, context_length: int) -> PositionScheme:
        return PositionScheme()
