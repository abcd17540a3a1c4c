"""GPT-OSS: sinks, windows in every other layer, and experts whose gates and ups lie in turns.

Its published folders have their experts quantized to four bits (MXFP4), which gptlab does not read.
"""

from typing import Any

from gptlab.interop.explicit import like
from gptlab.interop.families._experts import ignore_balancing, mixture_of, width_of
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import (
    attention_of,
    every_nth_global,
    local_and_global,
    read_kinds,
    write_kinds,
)
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.mlp.clamped_swiglu import ClampedSwiGLU
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts

EXPERTS = "model.layers.#.mlp.experts"


class GptOss(LlamaLike):
    architecture = "GptOssForCausalLM"
    rms_norm_eps = 1e-5
    rope_theta = 150_000.0

    def read(self, config: Settings) -> Model:
        ignore_balancing(config)
        config.ignore("experts_per_token", "initial_context_length")  # said twice in the files
        if not {"rope_parameters", "rope_scaling"} & config.tree.keys():
            raise ValueError(f"{config.place}: rope_parameters is missing")
        model = super().read(config)
        attention = attention_of(model).but(
            sinks=True, bias=config.get("attention_bias", bool, True)
        )
        local = attention.but(window=config.get("sliding_window", int, 128))
        kinds = read_kinds(config, every_nth_global(config, 2))
        expert = ClampedSwiGLU(
            d_ff=config.need("intermediate_size", int),
            bias=True,
            limit=config.get("swiglu_limit", float, 7.0),
            alpha=config.get("swiglu_alpha", float, 1.702),
        )
        return model.but(
            attention=local_and_global(kinds, local, attention),
            mlp=MixtureOfExperts(
                n_experts=config.need("num_local_experts", int),
                top_k=config.get("num_experts_per_tok", int, 4),
                router_bias=True,
                expert=expert,
            ),
        )

    def write(self, model: Model) -> dict[str, Any]:
        mixture = mixture_of(model)
        expert = like(mixture.expert, ClampedSwiGLU)
        return super().write(model) | {
            "attention_bias": attention_of(model).bias is True,
            "intermediate_size": width_of(expert, model.d_model),
            "swiglu_limit": expert.limit,
            "swiglu_alpha": expert.alpha,
            "num_local_experts": mixture.n_experts,
            "num_experts_per_tok": mixture.top_k,
            **write_kinds(model),
        }

    def table(self, model: Model) -> Table:
        d_ff = width_of(mixture_of(model).expert, model.d_model)
        in_turns = {"fused": True, "groups": d_ff, "stacked": True}
        gate_up = Theirs(f"{EXPERTS}.gate_up_proj", transposed=True, **in_turns)
        gate_up_bias = Theirs(f"{EXPERTS}.gate_up_proj_bias", **in_turns)
        return TABLE | {
            "blocks.#.attention.sinks_H": "model.layers.#.self_attn.sinks",
            "blocks.#.mlp.router.matrix": "model.layers.#.mlp.router",
            "blocks.#.mlp.experts.*.gate.weight": gate_up,
            "blocks.#.mlp.experts.*.up.weight": gate_up,
            "blocks.#.mlp.experts.*.down.weight": Theirs(
                f"{EXPERTS}.down_proj", transposed=True, stacked=True
            ),
            "blocks.#.mlp.experts.*.gate.bias": gate_up_bias,
            "blocks.#.mlp.experts.*.up.bias": gate_up_bias,
            "blocks.#.mlp.experts.*.down.bias": Theirs(f"{EXPERTS}.down_proj_bias", stacked=True),
        }
