"""nanochat: norms without gains, also after the rotation and on embeddings; ReLU squared.

Its rotation turns the other way. That is the same with the halves of every head exchanged.
"""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.mlp.relu_squared import ReluSquared
from gptlab.parts.norm.rms_norm import RMSNorm


class NanoChat(LlamaLike):
    architecture = "NanoChatForCausalLM"
    gates = ("relu2",)

    def read(self, config: Settings) -> Model:
        model = super().read(config)
        norm = RMSNorm(eps=config.get("rms_norm_eps", float, 1e-6), affine=False)
        return model.but(
            embedding_norm=norm,
            norm=norm,
            attention=attention_of(model).but(
                qk_norm=norm,
                qk_norm_after_rotation=True,
                bias=config.get("attention_bias", bool, False),
            ),
            mlp=ReluSquared(d_ff=config.need("intermediate_size", int)),
            head=model.head.but(softcap=config.get("final_logit_softcapping", float, 15.0)),
        )

    def write(self, model: Model) -> dict[str, Any]:
        return super().write(model) | {
            "hidden_act": "relu2",
            "intermediate_size": like(model.mlp, ReluSquared).d_ff or 4 * model.d_model,
            "attention_bias": attention_of(model).bias is True,
            "final_logit_softcapping": model.head.softcap,
        }

    def table(self, model: Model) -> Table:
        attention = attention_of(model)
        query, key = attention.n_heads, attention.n_kv_heads or attention.n_heads
        return {
            **TABLE,
            "blocks.#.attention.query": Theirs("model.layers.#.self_attn.q_proj", turned=query),
            "blocks.#.attention.key": Theirs("model.layers.#.self_attn.k_proj", turned=key),
            "blocks.#.mlp.up": "model.layers.#.mlp.fc1",
            "blocks.#.mlp.down": "model.layers.#.mlp.fc2",
        }
