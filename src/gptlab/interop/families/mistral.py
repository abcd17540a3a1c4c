"""Mistral: Llama with a sliding window in every layer."""

from typing import Any

from gptlab.interop.families._llama import LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model


class Mistral(LlamaLike):
    architecture = "MistralForCausalLM"

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        window = config.get("sliding_window", int, None)
        return model.but(attention=attention_of(model).but(window=window))

    def write(self, model: Model) -> dict[str, Any]:
        return super().write(model) | {"sliding_window": attention_of(model).window}
