"""Mixtral: Mistral's layers with a mixture of experts; the weights of those chosen add up to 1."""

from collections.abc import Sequence
from typing import Any

from gptlab.interop.families._experts import STACKED, ignore_balancing, mixture_of, width_of
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts


class Mixtral(LlamaLike):
    architecture = "MixtralForCausalLM"
    rms_norm_eps = 1e-5
    rope_theta = 1_000_000.0

    def read(self, config: Settings) -> Model:
        ignore_balancing(config)
        model = super().read(config)
        window = config.get("sliding_window", int, None)
        return model.but(
            attention=attention_of(model).but(window=window),
            mlp=MixtureOfExperts(
                n_experts=config.get("num_local_experts", int, 8),
                top_k=config.get("num_experts_per_tok", int, 2),
                expert=model.mlp,
            ),
        )

    def write(self, model: Model) -> dict[str, Any]:
        mixture = mixture_of(model)
        return super().write(model) | {
            "intermediate_size": width_of(mixture.expert, model.d_model),
            "num_local_experts": mixture.n_experts,
            "num_experts_per_tok": mixture.top_k,
            "sliding_window": attention_of(model).window,
        }

    def table(self, model: Model) -> Table:
        return TABLE | {
            "blocks.#.mlp.router.matrix": "model.layers.#.block_sparse_moe.gate",
            "blocks.#.mlp.experts.*.gate": "model.layers.#.block_sparse_moe.experts.*.w1",
            "blocks.#.mlp.experts.*.up": "model.layers.#.block_sparse_moe.experts.*.w3",
            "blocks.#.mlp.experts.*.down": "model.layers.#.block_sparse_moe.experts.*.w2",
        }

    def other_tables(self, model: Model) -> Sequence[Table]:
        return [TABLE | STACKED]
