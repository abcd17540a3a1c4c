"""What Llama and its relatives share: pre-norm, RMSNorm, rotary positions, a gated MLP."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families import Family
from gptlab.interop.layers import attention_of
from gptlab.interop.rotary import (
    context_length,
    read_rotary,
    write_context_length,
    write_rotary,
)
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.norm import Norm
from gptlab.parts.norm.rms_norm import RMSNorm
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.pre_norm import PreNorm

TABLE: Table = {
    "embedding": "model.embed_tokens",
    "blocks.#.residual.norms.0": "model.layers.#.input_layernorm",
    "blocks.#.attention.query": "model.layers.#.self_attn.q_proj",
    "blocks.#.attention.key": "model.layers.#.self_attn.k_proj",
    "blocks.#.attention.value": "model.layers.#.self_attn.v_proj",
    "blocks.#.attention.output": "model.layers.#.self_attn.o_proj",
    "blocks.#.attention.query_norm": "model.layers.#.self_attn.q_norm",
    "blocks.#.attention.key_norm": "model.layers.#.self_attn.k_norm",
    "blocks.#.residual.norms.1": "model.layers.#.post_attention_layernorm",
    "blocks.#.mlp.gate": "model.layers.#.mlp.gate_proj",
    "blocks.#.mlp.up": "model.layers.#.mlp.up_proj",
    "blocks.#.mlp.down": "model.layers.#.mlp.down_proj",
    "ends.norm": "model.norm",
    "head.matrix": "lm_head",
}


class LlamaLike(Family):
    """Llama without its biases; the relatives change what differs."""

    activation = "hidden_act"
    gates: tuple[str, ...] = ("silu",)
    tied: bool = False  # here and below: what a config means that does not say
    rms_norm_eps: float = 1e-6
    d_head: int | None = None  # null: hidden_size / num_attention_heads
    rope_theta: float = 10_000.0

    def read(self, config: Settings) -> Model:
        config.only(self.activation, self.gates, self.gates[0])
        norm = RMSNorm(eps=config.get("rms_norm_eps", float, self.rms_norm_eps), cast="llama")
        tied = config.get("tie_word_embeddings", bool, self.tied)
        n_heads = config.need("num_attention_heads", int)
        d_head = self.d_head or config.need("hidden_size", int) // n_heads
        return Model(
            vocab_size=config.need("vocab_size", int),
            context_length=context_length(config),
            d_model=config.need("hidden_size", int),
            n_layers=config.need("num_hidden_layers", int),
            positions=self.positions(config),
            norm=norm,
            attention=GroupedQuery(
                n_heads=n_heads,
                n_kv_heads=config.get("num_key_value_heads", int, n_heads),
                d_head=config.get("head_dim", int, d_head),
            ),
            mlp=SwiGLU(d_ff=config.need("intermediate_size", int)),
            residual=PreNorm(),
            head=Tied() if tied else Untied(),
            initialization=GPT2(),
        )

    def positions(self, config: Settings) -> Rotary:
        return read_rotary(config, self.rope_theta)

    def write(self, model: Model) -> dict[str, Any]:
        attention, mlp = attention_of(model), like(model.mlp, SwiGLU)
        d_head = attention.d_head or model.d_model // attention.n_heads
        return {
            "vocab_size": model.vocab_size,
            "max_position_embeddings": write_context_length(model.context_length, model.positions),
            "hidden_size": model.d_model,
            "num_hidden_layers": model.n_layers,
            "num_attention_heads": attention.n_heads,
            "num_key_value_heads": attention.n_kv_heads or attention.n_heads,
            "head_dim": d_head,
            "intermediate_size": mlp.width(model.d_model),
            "hidden_act": "silu",
            "rms_norm_eps": eps_of(model.norm),
            "rope_parameters": write_rotary(model.positions),
            "attention_dropout": model.dropout,
            "tie_word_embeddings": not isinstance(model.head, Untied),
        }

    def table(self, model: Model) -> Table:
        return TABLE


def eps_of(norm: Norm) -> float:
    """Give what a norm adds to the mean square."""
    return getattr(norm, "eps", 1e-6)
