"""GPT-2: learned positions, LayerNorm, biases everywhere, matrices that lie (in, out)."""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families import Family
from gptlab.interop.families._llama import eps_of
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.untied import Untied
from gptlab.parts.initialization.gpt2 import GPT2 as Initialization
from gptlab.parts.mlp.gelu import Gelu
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions.learned import Learned
from gptlab.parts.residual.pre_norm import PreNorm

TANH, EXACT = ["gelu_new", "gelu_pytorch_tanh"], ["gelu"]
QKV = Theirs("transformer.h.#.attn.c_attn", transposed=True, fused=True)
TABLE: Table = {
    "embedding": "transformer.wte",
    "positions.table": "transformer.wpe",
    "blocks.#.residual.norms.0": "transformer.h.#.ln_1",
    "blocks.#.attention.query": QKV,
    "blocks.#.attention.key": QKV,
    "blocks.#.attention.value": QKV,
    "blocks.#.attention.output": Theirs("transformer.h.#.attn.c_proj", transposed=True),
    "blocks.#.residual.norms.1": "transformer.h.#.ln_2",
    "blocks.#.mlp.up": Theirs("transformer.h.#.mlp.c_fc", transposed=True),
    "blocks.#.mlp.down": Theirs("transformer.h.#.mlp.c_proj", transposed=True),
    "ends.norm": "transformer.ln_f",
    "head.matrix": "lm_head",
}


class GPT2(Family):
    architecture = "GPT2LMHeadModel"
    body = "transformer."
    buffers = (r".*\.attn\.(bias|masked_bias)",)

    def read(self, config: Settings) -> Model:
        config.ignore("resid_pdrop", "embd_pdrop", "attn_pdrop", "task_specific_params", "n_ctx")
        config.ignore("summary_type", "summary_use_proj", "summary_activation")
        config.ignore("summary_proj_to_labels", "summary_first_dropout", "reorder_and_upcast_attn")
        config.only("scale_attn_weights", [True], True)
        config.only("scale_attn_by_inverse_layer_idx", [False], False)
        config.only("add_cross_attention", [False], False)
        config.only("activation_function", TANH + EXACT, "gelu_new")
        is_exact = config.get("activation_function", str, "gelu_new") in EXACT
        d_model = config.need("n_embd", int)
        return Model(
            vocab_size=config.need("vocab_size", int),
            context_length=config.need("n_positions", int),
            d_model=d_model,
            n_layers=config.need("n_layer", int),
            positions=Learned(),
            norm=LayerNorm(eps=config.get("layer_norm_epsilon", float, 1e-5)),
            attention=GroupedQuery(n_heads=config.need("n_head", int), bias=True),
            mlp=Gelu(
                d_ff=config.get("n_inner", int, 4 * d_model),
                bias=True,
                approximate="none" if is_exact else "tanh",
            ),
            residual=PreNorm(),
            head=Tied() if config.get("tie_word_embeddings", bool, True) else Untied(),
            initialization=Initialization(),
        )

    def write(self, model: Model) -> dict[str, Any]:
        mlp = like(model.mlp, Gelu)
        return {
            "vocab_size": model.vocab_size,
            "n_positions": model.context_length,
            "n_embd": model.d_model,
            "n_layer": model.n_layers,
            "n_head": attention_of(model).n_heads,
            "n_inner": mlp.d_ff or 4 * model.d_model,
            "activation_function": "gelu" if mlp.approximate == "none" else "gelu_new",
            "layer_norm_epsilon": eps_of(model.norm),
            "resid_pdrop": model.dropout,
            "embd_pdrop": model.dropout,
            "attn_pdrop": model.dropout,
            "tie_word_embeddings": not isinstance(model.head, Untied),
        }

    def table(self, model: Model) -> Table:
        return TABLE
