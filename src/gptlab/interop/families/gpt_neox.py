"""GPT-NeoX and Pythia: both branches at once, each with a norm; a part of each head rotated."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families import Family
from gptlab.interop.families._llama import eps_of
from gptlab.interop.families.gpt2 import EXACT, TANH
from gptlab.interop.layers import attention_of
from gptlab.interop.rotary import (
    context_length,
    read_rotary,
    write_context_length,
    write_rotary,
)
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2
from gptlab.parts.mlp.gelu import Gelu
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.residual.parallel import Parallel
from gptlab.parts.residual.pre_norm import PreNorm


class GPTNeoX(Family):
    architecture = "GPTNeoXForCausalLM"
    body = "gpt_neox."
    buffers = (r".*\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",)

    def read(self, config: Settings) -> Model:
        config.ignore("hidden_dropout", "classifier_dropout", "is_decoder")
        config.only("hidden_act", TANH + EXACT, "gelu")
        is_exact = config.get("hidden_act", str, "gelu") in EXACT
        is_parallel = config.get("use_parallel_residual", bool, True)
        base = config.get("rotary_emb_base", float, 10_000.0)
        return Model(
            vocab_size=config.need("vocab_size", int),
            context_length=context_length(config),
            d_model=config.need("hidden_size", int),
            n_layers=config.need("num_hidden_layers", int),
            positions=read_rotary(config, base, config.get("rotary_pct", float, 0.25)),
            norm=LayerNorm(eps=config.get("layer_norm_eps", float, 1e-5)),
            attention=GroupedQuery(
                n_heads=config.need("num_attention_heads", int),
                bias=config.get("attention_bias", bool, True),
            ),
            mlp=Gelu(
                d_ff=config.need("intermediate_size", int),
                bias=True,
                approximate="none" if is_exact else "tanh",
            ),
            residual=Parallel(own_norms=True) if is_parallel else PreNorm(),
            head=Tied() if config.get("tie_word_embeddings", bool, False) else Untied(),
            initialization=GPT2(),
        )

    def write(self, model: Model) -> dict[str, Any]:
        mlp, attention = like(model.mlp, Gelu), attention_of(model)
        rope = write_rotary(model.positions)
        return {
            "vocab_size": model.vocab_size,
            "max_position_embeddings": write_context_length(model.context_length, model.positions),
            "hidden_size": model.d_model,
            "num_hidden_layers": model.n_layers,
            "num_attention_heads": attention.n_heads,
            "intermediate_size": mlp.d_ff or 4 * model.d_model,
            "hidden_act": "gelu" if mlp.approximate == "none" else "gelu_new",
            "layer_norm_eps": eps_of(model.norm),
            "rope_parameters": {"partial_rotary_factor": 1.0} | rope,
            "use_parallel_residual": not isinstance(model.residual, PreNorm),
            "attention_bias": bool(attention.bias),
            "attention_dropout": model.dropout,
            "hidden_dropout": model.dropout,
            "tie_word_embeddings": not isinstance(model.head, Untied),
        }

    def table(self, model: Model) -> Table:
        layer = "gpt_neox.layers.#."
        n_heads = attention_of(model).n_heads
        qkv = Theirs(f"{layer}attention.query_key_value", fused=True, groups=n_heads)
        return {
            "embedding": "gpt_neox.embed_in",
            "blocks.#.residual.norms.0": f"{layer}input_layernorm",
            "blocks.#.residual.norms.1": f"{layer}post_attention_layernorm",
            "blocks.#.attention.query": qkv,
            "blocks.#.attention.key": qkv,
            "blocks.#.attention.value": qkv,
            "blocks.#.attention.output": f"{layer}attention.dense",
            "blocks.#.mlp.up": f"{layer}mlp.dense_h_to_4h",
            "blocks.#.mlp.down": f"{layer}mlp.dense_4h_to_h",
            "ends.norm": "gpt_neox.final_layer_norm",
            "head.matrix": "embed_out",
        }
