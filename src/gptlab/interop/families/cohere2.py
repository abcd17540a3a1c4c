"""Command R7B: both branches read one norm; local layers rotate neighbours, global ones nothing."""

from typing import Any

from gptlab.interop.families._llama import TABLE, LlamaLike, eps_of
from gptlab.interop.layers import (
    a_layer,
    attention_of,
    every_nth_global,
    local_and_global,
    read_kinds,
    write_kinds,
)
from gptlab.interop.rotary import read_rotary
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions.none import NoPositions
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.residual.parallel import Parallel

NAMES: Table = {**TABLE, "blocks.#.residual.norm": "model.layers.#.input_layernorm"}


class Cohere2(LlamaLike):
    architecture = "Cohere2ForCausalLM"
    tied = True

    def read(self, config: Settings) -> Model:
        config.ignore("layer_switch", "order_of_interleaved_layers", "cache_implementation")
        config.only("position_embedding_type", ["rope_gptj"], "rope_gptj")
        config.only("rotary_pct", [1.0], 1.0)
        config.only("use_qk_norm", [False], False)
        for name in ("use_embedding_sharing", "use_gated_activation", "use_parallel_block"):
            config.only(name, [True], True)
        config.only("use_parallel_embedding", [False], False)
        model = super().read(config)
        attention = attention_of(model).but(bias=config.get("attention_bias", bool, False))
        local = attention.but(window=config.get("sliding_window", int, 4096))
        kinds = read_kinds(config, every_nth_global(config, 4))
        return model.but(
            norm=LayerNorm(eps=config.get("layer_norm_eps", float, 1e-5), bias=False),
            attention=local_and_global(kinds, local, attention.but(positions=NoPositions())),
            residual=Parallel(),
            head=model.head.but(scale=config.get("logit_scale", float, 0.0625)),
        )

    def positions(self, config: Settings) -> Rotary:
        return read_rotary(config).but(layout="interleaved")

    def write(self, model: Model) -> dict[str, Any]:
        written = super().write(model)
        del written["rms_norm_eps"]
        return (
            written
            | write_kinds(model, without=4096)
            | {
                "layer_norm_eps": eps_of(model.norm),
                "attention_bias": a_layer(model, local=True).bias is True,
                "logit_scale": model.head.scale,
            }
        )

    def table(self, model: Model) -> Table:
        return NAMES
