"""Windows in some layers and none in others, as `layer_types` has them."""

from collections.abc import Sequence
from typing import Any

from gptlab.interop.settings import Settings

LOCAL, GLOBAL = "sliding_attention", "full_attention"


def read_windows(config: Settings, default: Sequence[str]) -> list[int | None]:
    """Read the window of every layer; `default`: what a config without `layer_types` means."""
    kinds = config.get("layer_types", list, list(default))
    window = config.get("sliding_window", int, None)
    if len(kinds) != len(default) or not {LOCAL, GLOBAL}.issuperset(kinds):
        raise ValueError(
            f"{config.place}: layer_types must say {LOCAL} or {GLOBAL} for each of "
            f"{len(default)} layers"
        )
    if window is None and LOCAL in kinds:
        raise ValueError(f"{config.place}: sliding_window is missing, which {LOCAL} needs")
    return [window if kind == LOCAL else None for kind in kinds]


def write_windows(windows: Sequence[int | None]) -> dict[str, Any]:
    """Write the windows of all layers, of which there can be one beside none."""
    some = [window for window in windows if window is not None]
    return {
        "sliding_window": some[0] if some else None,
        "layer_types": [GLOBAL if window is None else LOCAL for window in windows],
    }
