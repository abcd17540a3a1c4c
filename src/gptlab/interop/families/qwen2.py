"""Qwen 2: Llama with biases on queries, keys and values, and windows in upper layers if any."""

from typing import Any

from gptlab.interop.families._llama import LlamaLike
from gptlab.interop.layers import attention_of, local_and_global, read_kinds, write_kinds
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery


class Qwen2(LlamaLike):
    architecture = "Qwen2ForCausalLM"

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        return read_windows(config, model, attention_of(model).but(bias="qkv"))

    def write(self, model: Model) -> dict[str, Any]:
        return super().write(model) | write_windows(model)


def read_windows(config: Settings, model: Model, attention: GroupedQuery) -> Model:
    """Read which layers have a window: from max_window_layers on, if they are not listed."""
    first = config.get("max_window_layers", int, 28, may_be_0=True)
    window = config.get("sliding_window", int, 4096)
    if not config.get("use_sliding_window", bool, False):
        window = None
    kinds = read_kinds(config, [window is not None and i >= first for i in range(model.n_layers)])
    local = attention.but(window=window)
    return model.but(attention=local_and_global(kinds, local, attention))


def write_windows(model: Model) -> dict[str, Any]:
    kinds = write_kinds(model)
    return kinds | {"use_sliding_window": kinds["sliding_window"] is not None}
