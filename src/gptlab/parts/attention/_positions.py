"""The positions of a layer: its own where it names some, else the model's."""

from gptlab.parts.needs import Needs
from gptlab.parts.positions import Positions, PositionScheme


def build_positions(own: Positions | None, needs: Needs, d_head: int) -> PositionScheme:
    """Build the layer's own positions, or give the model's. Raises ValueError if heads misfit."""
    if own is None:
        needs.positions.check_head(d_head)
        return needs.positions
    scheme = own.build(needs.d_model, needs.context_length)
    if scheme.marks_embeddings():
        raise ValueError(
            f"model.attention.positions={own.variant} marks the token embeddings, "
            "before any layer; choose it as model.positions"
        )
    scheme.check_head(d_head, "model.attention.positions")
    return scheme
