"""Named sizes: the settings that make a base as large or small as that."""

from collections.abc import Mapping

from gptlab.config import nearest
from gptlab.train.recipe import Recipe

SIZES = {"nano": (64, 2), "micro": (128, 4), "small": (256, 6), "medium": (512, 8)}


def renewed(
    scales: Mapping[str, tuple[str, ...]], before: Recipe, after: Recipe
) -> dict[str, tuple[str, ...]]:
    """Give the sizes of a base that was changed: those that were made of it are made again."""
    return {
        name: settings_of(after, name)
        if name in SIZES and settings == settings_of(before, name)
        else settings
        for name, settings in scales.items()
    }


def settings_of(base: Recipe, size: str) -> tuple[str, ...]:
    """Give the width and depth of a size, with heads as wide and as shared as the base's.

    An inner width that the base names keeps its ratio; the number of tokens stays.
    """
    if size not in SIZES:
        known = ", ".join(SIZES)
        raise ValueError(f"no size {size!r}{nearest(size, tuple(SIZES))} ({known})")
    width, n_layers = SIZES[size]
    model = base.model
    settings = [f"model.d_model={width}", f"model.n_layers={n_layers}"]
    n_heads = getattr(model.attention, "n_heads", None)
    if n_heads:
        heads = max(1, width * n_heads // model.d_model)
        settings.append(f"model.attention.n_heads={heads}")
        n_kv_heads = getattr(model.attention, "n_kv_heads", None)
        if n_kv_heads:
            shared = max(1, heads * n_kv_heads // n_heads)
            settings.append(f"model.attention.n_kv_heads={shared}")
    d_ff = getattr(model.mlp, "d_ff", None)
    if d_ff:
        settings.append(f"model.mlp.d_ff={d_ff * width // model.d_model}")
    return tuple(settings)
