"""Qwen 3: Llama with a norm on every head's queries and keys."""

from typing import Any

from gptlab.interop.families._llama import LlamaLike
from gptlab.interop.families.qwen2 import read_windows, write_windows
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model


class Qwen3(LlamaLike):
    architecture = "Qwen3ForCausalLM"
    d_head = 128

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        bias = config.get("attention_bias", bool, False)
        attention = attention_of(model).but(qk_norm=model.norm, bias=bias)
        return read_windows(config, model, attention)

    def write(self, model: Model) -> dict[str, Any]:
        written = super().write(model) | write_windows(model)
        return written | {"attention_bias": attention_of(model).bias is True}
