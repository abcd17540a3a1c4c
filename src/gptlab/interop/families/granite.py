"""Granite: Llama with multipliers on embeddings, scores, branches and logits."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families.llama import Llama
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.model.gpt import Model
from gptlab.parts.residual.scaled import Scaled


class Granite(Llama):
    architecture = "GraniteForCausalLM"

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        scale = config.get("attention_multiplier", float, 1.0)
        branches = config.get("residual_multiplier", float, 1.0)
        return model.but(
            embedding_scale=config.get("embedding_multiplier", float, 1.0),
            attention=attention_of(model).but(scale=scale),
            residual=Scaled(scale=branches, learned=None),
            head=model.head.but(scale=1 / config.get("logits_scaling", float, 1.0)),
        )

    def write(self, model: Model) -> dict[str, Any]:
        attention, residual = attention_of(model), like(model.residual, Scaled)
        is_scaled = isinstance(model.residual, Scaled)
        return super().write(model) | {
            "attention_multiplier": attention.scale,
            "residual_multiplier": residual.scale if is_scaled else 1.0,
            "embedding_multiplier": model.embedding_scale,
            "logits_scaling": 1 / (model.head.scale or 1.0),
        }
