"""The positions of a layer: its own where it names some, else the model's."""

from gptlab.parts.needs import Needs
from gptlab.parts.positions import Positions, PositionScheme


def build_positions(
    own: Positions | None, needs: Needs, d_head: int, normed_after: bool = False
) -> PositionScheme:
    """Build the layer's own positions, or give the model's. Raises ValueError if heads misfit.

    normed_after: whether queries and keys are normed after they are marked.
    """
    if own is None:
        setting, scheme = "model.positions", needs.positions
        needs.used.add("positions")
    else:
        setting = "model.attention.positions"
        scheme = own.build(needs.d_model, needs.context_length)
        if scheme.marks_embeddings():
            raise ValueError(
                f"{setting}={own.variant} marks the token embeddings, before any layer; "
                "choose it as model.positions"
            )
    scheme.check_head(d_head, setting)
    if normed_after and scheme.attention_factor != 1:
        raise ValueError(
            f"model.attention.qk_norm_after_rotation=true takes back the attention factor "
            f"{scheme.attention_factor:.4g} of {setting}.scaling, which makes queries and keys "
            "longer; set it to false, or take another scaling"
        )
    return scheme
