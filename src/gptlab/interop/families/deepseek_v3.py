"""DeepSeek-V3: latent attention, dense first layers, and experts chosen within groups.

Its router's bias comes with the weights and keeps moving in training, by DeepSeek's own step. The
extra layer of its published folders, which predicts the second next token, is left out.
"""

import math
from collections.abc import Sequence
from typing import Any

from gptlab.interop.explicit import LOAD_BIAS_STEP, like, per_layer
from gptlab.interop.families._experts import (
    ONE_BY_ONE,
    STACKED,
    ignore_balancing,
    mixture_of,
    width_of,
)
from gptlab.interop.families._llama import TABLE, LlamaLike
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table, Theirs
from gptlab.model.gpt import Model
from gptlab.parts.attention.latent import Latent
from gptlab.parts.mlp.mixture_of_experts import MixtureOfExperts
from gptlab.parts.mlp.swiglu import SwiGLU
from gptlab.parts.positions.rotary import Rotary
from gptlab.parts.scaling.yarn import YaRN, magnitude

ATTENTION = "model.layers.#.self_attn"
LATENT = Theirs(f"{ATTENTION}.kv_a_proj_with_mqa", fused=True)
NAMES: Table = TABLE | {
    "blocks.#.attention.query": f"{ATTENTION}.q_proj",
    "blocks.#.attention.query.0": f"{ATTENTION}.q_a_proj",
    "blocks.#.attention.query.1": f"{ATTENTION}.q_a_layernorm",
    "blocks.#.attention.query.2": f"{ATTENTION}.q_b_proj",
    "blocks.#.attention.latent.0": LATENT,
    "blocks.#.attention.shared_key": LATENT,
    "blocks.#.attention.latent.1": f"{ATTENTION}.kv_a_layernorm",
    "blocks.#.mlp.router.load_bias.bias_X": "model.layers.#.mlp.gate.e_score_correction_bias",
    "blocks.#.mlp.shared.gate": "model.layers.#.mlp.shared_experts.gate_proj",
    "blocks.#.mlp.shared.up": "model.layers.#.mlp.shared_experts.up_proj",
    "blocks.#.mlp.shared.down": "model.layers.#.mlp.shared_experts.down_proj",
}


class DeepseekV3(LlamaLike):
    architecture = "DeepseekV3ForCausalLM"
    buffers = (*LlamaLike.buffers, r"model\.layers\.61\..*")

    def read(self, config: Settings) -> Model:
        ignore_balancing(config)
        config.ignore("num_nextn_predict_layers", "num_mtp_layers", "aux_loss_alpha", "seq_aux")
        config.ignore("ep_size", "head_dim", "qk_head_dim")  # the last two follow from others
        config.only("attention_bias", [False], False)
        config.only("rms_norm_eps", [1e-6], 1e-6)  # of latents, whatever the config says
        config.only("scoring_func", ["sigmoid"], "sigmoid")
        config.only("topk_method", ["noaux_tc"], "noaux_tc")
        config.only("moe_layer_freq", [1], 1)
        model = super().read(config)
        return model.but(attention=self.latent(config, model), mlp=self.mixture(config, model))

    def positions(self, config: Settings) -> Rotary:
        interleaved = config.get("rope_interleave", bool, True)
        return super().positions(config).but(layout="interleaved" if interleaved else "half")

    def latent(self, config: Settings, model: Model) -> Latent:
        N = config.get("qk_nope_head_dim", int, 128)
        R = config.get("qk_rope_head_dim", int, 64)
        return Latent(
            n_heads=config.need("num_attention_heads", int),
            d_latent=config.get("kv_lora_rank", int, 512),
            d_query_latent=config.get("q_lora_rank", int, None),
            d_nope=N,
            d_rope=R,
            d_value=config.get("v_head_dim", int, 128),
            scale=(N + R) ** -0.5 * self.extended(config, model) ** 2,
        )

    def extended(self, config: Settings, model: Model) -> float:
        """What YaRN multiplies queries and keys by, put into the scale of the scores."""
        rope = config.get("rope_parameters", dict, {}) or config.get("rope_scaling", dict, {})
        weight = rope.get("mscale_all_dim") or 0.0
        assert isinstance(model.positions, Rotary)
        scaling = model.positions.scaling
        return magnitude(scaling.factor, weight) if isinstance(scaling, YaRN) else 1.0

    def mixture(self, config: Settings, model: Model) -> MixtureOfExperts:
        width = config.get("moe_intermediate_size", int, 2048)
        n_experts = config.get("n_routed_experts", int, 256)
        n_dense = config.get("first_k_dense_replace", int, 3, may_be_0=True)
        if n_dense > model.n_layers:
            raise ValueError(
                f"{config.place}: first_k_dense_replace={n_dense} is more than "
                f"num_hidden_layers={model.n_layers}"
            )
        return MixtureOfExperts(
            n_experts=config.get("num_local_experts", int, n_experts),
            top_k=config.get("num_experts_per_tok", int, 8),
            expert=SwiGLU(d_ff=width),
            shared=SwiGLU(d_ff=width * config.get("n_shared_experts", int, 1)),
            dense_layers=(model.mlp,) * n_dense,
            score="sigmoid",
            renormalize=config.get("norm_topk_prob", bool, True),
            routed_scale=config.get("routed_scaling_factor", float, 2.5),
            n_groups=config.get("n_group", int, 8),
            top_groups=config.get("topk_group", int, 4),
            load_bias_step=LOAD_BIAS_STEP,
        )

    def write(self, model: Model) -> dict[str, Any]:
        latent, mixture = like(per_layer(model)[0], Latent), mixture_of(model)
        positions, D = model.positions, model.d_model
        _, N, R, V = latent.widths(D)
        width, dense = width_of(mixture.expert, D), mixture.dense_layers
        written = super().write(model)
        del written["head_dim"]
        if isinstance(positions, Rotary) and isinstance(positions.scaling, YaRN):
            written["rope_parameters"]["mscale_all_dim"] = weight_of(latent, D, positions.scaling)
        return written | {
            "num_key_value_heads": latent.n_heads,
            "kv_lora_rank": latent.widths(D)[0],
            "q_lora_rank": latent.d_query_latent,
            "qk_nope_head_dim": N,
            "qk_rope_head_dim": R,
            "v_head_dim": V,
            "rope_interleave": getattr(positions, "layout", "half") == "interleaved",
            "intermediate_size": width_of((*dense, mixture.expert)[0], D),
            "moe_intermediate_size": width,
            "n_routed_experts": mixture.n_experts,
            "n_shared_experts": max(1, width_of(mixture.shared, D) // width),
            "num_experts_per_tok": mixture.top_k,
            "first_k_dense_replace": len(dense),
            "norm_topk_prob": mixture.renormalize,
            "routed_scaling_factor": mixture.routed_scale,
            "n_group": mixture.n_groups,
            "topk_group": mixture.top_groups,
        }

    def table(self, model: Model) -> Table:
        return NAMES | ONE_BY_ONE | self.keys_and_values(model)

    def other_tables(self, model: Model) -> Sequence[Table]:
        return [NAMES | STACKED | self.keys_and_values(model)]

    def keys_and_values(self, model: Model) -> Table:
        n_heads = like(per_layer(model)[0], Latent).n_heads
        both = Theirs(f"{ATTENTION}.kv_b_proj", fused=True, groups=n_heads)
        return {"blocks.#.attention.key": both, "blocks.#.attention.value": both}


def weight_of(latent: Latent, d_model: int, scaling: YaRN) -> float:
    """Find the weight of YaRN's magnitude in the scale of the scores."""
    _, N, R, _ = latent.widths(d_model)
    extended = math.sqrt((latent.scale or (N + R) ** -0.5) * (N + R) ** 0.5)
    return round((extended - 1) / (magnitude(scaling.factor) - 1), 6) if scaling.factor > 1 else 0.0
