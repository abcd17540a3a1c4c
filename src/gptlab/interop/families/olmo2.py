"""OLMo 2: norms after every branch, and over the full width of queries and keys."""

from typing import Any

from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.residual.branch_norm import BranchNorm

NAMES: Table = {
    **TABLE,
    "blocks.#.attention.query_norm.norm": "model.layers.#.self_attn.q_norm",
    "blocks.#.attention.key_norm.norm": "model.layers.#.self_attn.k_norm",
    "blocks.#.residual.norms.0": "model.layers.#.post_attention_layernorm",
    "blocks.#.residual.norms.1": "model.layers.#.post_feedforward_layernorm",
}


class Olmo2(LlamaLike):
    architecture = "Olmo2ForCausalLM"
    rms_norm_eps = 1e-5

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        norm = RMSNorm(eps=config.get("rms_norm_eps", float, self.rms_norm_eps))
        attention = attention_of(model).but(
            qk_norm=norm,
            qk_norm_over="width",
            bias=config.get("attention_bias", bool, False),
        )
        return model.but(norm=norm, attention=attention, residual=BranchNorm())

    def write(self, model: Model) -> dict[str, Any]:
        return super().write(model) | {"attention_bias": attention_of(model).bias is True}

    def table(self, model: Model) -> Table:
        return NAMES
