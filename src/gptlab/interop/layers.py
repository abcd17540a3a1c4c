"""Settings that differ from layer to layer, as a `config.json` has them: windows and their kind."""

from collections.abc import Sequence
from typing import Any

from gptlab.interop.explicit import in_turns, like, per_layer
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model
from gptlab.parts.attention import Attention
from gptlab.parts.attention.grouped_query import GroupedQuery

LOCAL, GLOBAL = "sliding_attention", "full_attention"


def read_kinds(config: Settings, default: Sequence[bool]) -> list[bool]:
    """Tell which layers have a window; `default`: where the config does not list them."""
    n_layers = config.need("num_hidden_layers", int)
    kinds = config.get("layer_types", list, [LOCAL if local else GLOBAL for local in default])
    if len(kinds) != n_layers or not all(kind in (LOCAL, GLOBAL) for kind in kinds):
        raise ValueError(
            f"{config.place}: layer_types names {len(kinds)} layers of "
            f"{', '.join(sorted({str(kind)[:40] for kind in kinds}))[:200]}; "
            f"num_hidden_layers={n_layers}, each {LOCAL} or {GLOBAL}"
        )
    return [kind == LOCAL for kind in kinds]


def every_nth_global(config: Settings, n: int) -> list[bool]:
    """Tell which layers have a window if all but every n-th one do."""
    n = config.get("_sliding_window_pattern", int, n)
    n = config.get("sliding_window_pattern", int, n)
    return [bool((i + 1) % n) for i in range(config.need("num_hidden_layers", int))]


def local_and_global(kinds: Sequence[bool], here: Attention, elsewhere: Attention) -> Attention:
    """Give layers with a window one attention, the others another."""
    return in_turns([here if local else elsewhere for local in kinds])


def attention_of(model: Model, layer: int = 0) -> GroupedQuery:
    """Give a layer's attention, or what is nearest to it."""
    return like(per_layer(model)[layer], GroupedQuery)


def write_kinds(model: Model, without: int | None = None) -> dict[str, Any]:
    """Write which layers have a window, and the first one's; `without`: where none has one."""
    windows = [attention_of(model, layer).window for layer in range(model.n_layers)]
    return {
        "layer_types": [GLOBAL if window is None else LOCAL for window in windows],
        "sliding_window": next((window for window in windows if window), without),
    }


def a_layer(model: Model, local: bool) -> GroupedQuery:
    """Give the attention of the first layer with a window, or without; else of the first one."""
    layers = [attention_of(model, layer) for layer in range(model.n_layers)]
    return next((each for each in layers if (each.window is not None) == local), layers[0])
