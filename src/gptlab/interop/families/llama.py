"""Llama 1 to 3, and the many models of the same form."""

from typing import Any

from gptlab.interop.families._llama import LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model


class Llama(LlamaLike):
    architecture = "LlamaForCausalLM"

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        return model.but(
            attention=attention_of(model).but(bias=config.get("attention_bias", bool, False)),
            mlp=model.mlp.but(bias=config.get("mlp_bias", bool, False)),
        )

    def write(self, model: Model) -> dict[str, Any]:
        return super().write(model) | {
            "attention_bias": attention_of(model).bias is True,
            "mlp_bias": getattr(model.mlp, "bias", False),
        }
