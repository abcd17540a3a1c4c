"""Qwen 3 with experts: norms on queries and keys, experts narrower than the dense first layers."""

from collections.abc import Sequence
from typing import Any

from gptlab.interop.families._experts import (
    ONE_BY_ONE,
    STACKED,
    ignore_balancing,
    mixture_of,
    width_of,
)
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.layers import attention_of
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.mlp.swiglu import SwiGLU


class Qwen3Moe(LlamaLike):
    architecture = "Qwen3MoeForCausalLM"

    def read(self, config: Settings) -> Model:
        ignore_balancing(config)
        config.ignore("max_window_layers")  # all layers have the window, or none
        model = super().read(config)
        sliding = config.get("use_sliding_window", bool, False)
        window = config.get("sliding_window", int, 4096)
        n_experts = config.get("num_experts", int, 128)
        return model.but(
            attention=attention_of(model).but(
                bias=config.get("attention_bias", bool, False),
                qk_norm=model.norm,
                window=window if sliding else None,
            ),
            mlp=MixtureOfExperts(
                n_experts=config.get("num_local_experts", int, n_experts),
                top_k=config.get("num_experts_per_tok", int, 8),
                renormalize=config.get("norm_topk_prob", bool, False),
                expert=SwiGLU(d_ff=config.get("moe_intermediate_size", int, 768)),
                dense_layers=(model.mlp,) * self.count_dense(config, model.n_layers),
            ),
        )

    def count_dense(self, config: Settings, n_layers: int) -> int:
        """Count the first layers, which alone may be dense."""
        step = config.get("decoder_sparse_step", int, 1)
        named = config.get("mlp_only_layers", list, [])
        dense = [layer for layer in range(n_layers) if layer in named or (layer + 1) % step]
        if dense != list(range(len(dense))):
            raise ValueError(
                f"{config.place}: decoder_sparse_step={step} and mlp_only_layers={named} leave "
                f"layer {dense[-1]} without experts; in gptlab only first layers can be so"
            )
        return len(dense)

    def write(self, model: Model) -> dict[str, Any]:
        attention, mixture = attention_of(model), mixture_of(model)
        dense = mixture.dense_layers
        return super().write(model) | {
            "attention_bias": attention.bias is True,
            "use_sliding_window": attention.window is not None,
            "sliding_window": attention.window,
            "intermediate_size": width_of((*dense, mixture.expert)[0], model.d_model),
            "moe_intermediate_size": width_of(mixture.expert, model.d_model),
            "num_experts": mixture.n_experts,
            "num_experts_per_tok": mixture.top_k,
            "norm_topk_prob": mixture.renormalize,
            "mlp_only_layers": list(range(len(dense))),
        }

    def table(self, model: Model) -> Table:
        return TABLE | ONE_BY_ONE

    def other_tables(self, model: Model) -> Sequence[Table]:
        return [TABLE | STACKED]
