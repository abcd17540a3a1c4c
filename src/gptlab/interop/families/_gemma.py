"""What Gemma 2 and 3 share: norms around every branch, with gains of 1 + w; scaled embeddings."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import (
    a_layer,
    attention_of,
    every_nth_global,
    local_and_global,
    read_kinds,
    write_kinds,
)
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.mlp.geglu import GeGLU
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.residual.sandwich import Sandwich

NAMES: Table = {
    **TABLE,
    "blocks.#.residual.output_norms.0": "model.layers.#.post_attention_layernorm",
    "blocks.#.residual.norms.1": "model.layers.#.pre_feedforward_layernorm",
    "blocks.#.residual.output_norms.1": "model.layers.#.post_feedforward_layernorm",
}


class GemmaLike(LlamaLike):
    """Local and global layers in turn, every `global_every`-th of them global."""

    activation = "hidden_activation"
    gates = ("gelu_pytorch_tanh",)
    tied = True
    d_head = 256
    global_every: int
    attention_softcap: float | None = None
    head_softcap: float | None = None

    def read(self, config: Settings) -> Model:
        config.ignore("hidden_act")  # older configs have it beside the one that counts
        config.only("use_bidirectional_attention", [False, None])
        model = super().read(config)
        attention = attention_of(model).but(
            bias=config.get("attention_bias", bool, False),
            scale=config.get("query_pre_attn_scalar", float, 256.0) ** -0.5,
            softcap=config.get("attn_logit_softcapping", float, self.attention_softcap),
        )
        softcap = config.get("final_logit_softcapping", float, self.head_softcap)
        local = attention.but(window=config.get("sliding_window", int, 4096))
        kinds = read_kinds(config, every_nth_global(config, self.global_every))
        return model.but(
            embedding_scale=model.d_model**0.5,
            norm=RMSNorm(eps=config.get("rms_norm_eps", float, 1e-6), offset=True),
            attention=local_and_global(kinds, local, self.global_attention(config, attention)),
            mlp=GeGLU(d_ff=config.need("intermediate_size", int)),
            residual=Sandwich(),
            head=model.head.but(softcap=softcap),
        )

    def global_attention(self, config: Settings, attention: GroupedQuery) -> GroupedQuery:
        return attention

    def write(self, model: Model) -> dict[str, Any]:
        attention, written = a_layer(model, local=False), super().write(model)
        scale = attention.scale or (attention.d_head or 256) ** -0.5
        del written["hidden_act"]
        return (
            written
            | write_kinds(model, without=4096)
            | {
                "hidden_activation": self.gates[0],
                "intermediate_size": like(model.mlp, GeGLU).width(model.d_model),
                "attention_bias": attention.bias is True,
                "query_pre_attn_scalar": max(1, round(scale**-2)),
                "attn_logit_softcapping": attention.softcap,
                "final_logit_softcapping": model.head.softcap,
            }
        )

    def table(self, model: Model) -> Table:
        return NAMES
