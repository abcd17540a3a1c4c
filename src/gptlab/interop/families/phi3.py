"""Phi 3 and 4: Llama with one matrix for queries, keys and values, and one for gate and up.

Those with a longer context have two lists of factors and take one by the text at hand. Ours has the
list of its `context_length` for all texts; for short ones, set max_position_embeddings in their
config to the original length before importing.
"""

from typing import Any

from gptlab.interop.families._llama import TABLE
from gptlab.interop.families.mistral import Mistral
from gptlab.interop.rotary import read_rotary
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.positions.rotary import Rotary

QKV = Theirs("model.layers.#.self_attn.qkv_proj", fused=True)
GATE_UP = Theirs("model.layers.#.mlp.gate_up_proj", fused=True)
NAMES: Table = {
    **TABLE,
    "blocks.#.attention.query": QKV,
    "blocks.#.attention.key": QKV,
    "blocks.#.attention.value": QKV,
    "blocks.#.mlp.gate": GATE_UP,
    "blocks.#.mlp.up": GATE_UP,
}


class Phi3(Mistral):
    architecture = "Phi3ForCausalLM"
    rms_norm_eps = 1e-5

    def read(self, config: Settings) -> Model:
        config.ignore("resid_pdrop", "embd_pdrop", "original_max_position_embeddings")
        for bias in ("attention_bias", "mlp_bias", "lm_head_bias"):
            config.only(bias, [False], False)
        for share in ("full_attn_mod", "interpolate_factor"):
            config.only(share, [1], 1)
        return super().read(config)

    def positions(self, config: Settings) -> Rotary:
        return read_rotary(config, fraction=1.0)

    def write(self, model: Model) -> dict[str, Any]:
        written = super().write(model)
        rope, length = written["rope_parameters"], written["max_position_embeddings"]
        original = rope.pop("original_max_position_embeddings", length)
        return written | {"original_max_position_embeddings": original}

    def table(self, model: Model) -> Table:
        return NAMES
