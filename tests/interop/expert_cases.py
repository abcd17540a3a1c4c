"""Small configs of the families with a mixture of experts, and mistakes in our models of them."""

from cases import BIG_EPS, ROPE, SIZES, WINDOW, Case

YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_fast": 2, "beta_slow": 0.1}
YARN |= {"original_max_position_embeddings": 6}
OSS = SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}
QWEN = SIZES | {"num_local_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
EXPERT_CASES = {
    "mixtral": Case(
        SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": ROPE},
        [
            {"mlp.renormalize": False},
            {"mlp.top_k": 3},
            {"mlp.expert": {"type": "geglu", "d_ff": 80}},
            BIG_EPS,
        ],
    ),
    "mixtral windows": Case(
        SIZES | {"num_local_experts": 11, "num_experts_per_tok": 3, "sliding_window": WINDOW},
        [{"attention.window": WINDOW + 1}, {"attention.window": WINDOW - 1}],
    ),
    "qwen3_moe": Case(
        QWEN | {"norm_topk_prob": True, "rope_parameters": ROPE},
        [
            {"mlp.renormalize": False},
            {"mlp.score": "sigmoid"},
            {"attention.qk_norm_after_rotation": True},
            {"attention.qk_norm.eps": 1e-2},
            {"positions.base": 501.0},
        ],
    ),
    "qwen3_moe all weights, windows, dense first layers": Case(
        QWEN
        | {"mlp_only_layers": [0, 1], "attention_bias": True, "tie_word_embeddings": True}
        | {"use_sliding_window": True, "sliding_window": WINDOW},
        [{"mlp.renormalize": True}, {"attention.window": WINDOW + 1}],
    ),
    "gpt_oss": Case(
        OSS | {"rope_parameters": YARN | {"truncate": False}},
        [
            {"attention.window": WINDOW + 1},
            {"positions.scaling.truncate": True},
            {"positions.scaling.magnitude": 1.0},
            {"mlp.expert.alpha": 1.6},
            {"mlp.expert.limit": 0.5},
            {"mlp.renormalize": False},
        ],
    ),
    "gpt_oss other windows, limits, no biases": Case(
        OSS
        | {"rope_parameters": ROPE, "swiglu_limit": 0.5, "swiglu_alpha": 1.3}
        | {"attention_bias": False, "tie_word_embeddings": True}
        | {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        [{"mlp.expert.limit": 7.0}, {"mlp.expert.alpha": 1.702}],
    ),
}
DEEPSEEK = {name: value for name, value in SIZES.items() if name != "head_dim"} | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 8,
    "v_head_dim": 14,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "n_group": 4,
    "topk_group": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "rope_parameters": ROPE,
}
EXPERT_CASES |= {
    "deepseek_v3": Case(
        DEEPSEEK,
        [
            {"positions.layout": "half"},
            {"attention.scale": 10**-0.5},
            {"mlp.top_groups": 3},
            {"mlp.routed_scale": 1.0},
            {"mlp.renormalize": False},
            {"mlp.score": "softmax"},
        ],
    ),
    "deepseek_v3 YaRN, queries out of the stream, all weights, halves": Case(
        DEEPSEEK
        | {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}}
        | {"q_lora_rank": None, "norm_topk_prob": False, "rope_interleave": False}
        | {"n_group": 1, "topk_group": 1, "tie_word_embeddings": True},
        [
            {"attention.scale": 18**-0.5},
            {"positions.scaling.magnitude": None},
            {"positions.layout": "interleaved"},
        ],
    ),
}
EXPERT_CASES["deepseek_v3 all layers with experts, YaRN in the rotation"] = Case(
    DEEPSEEK | {"first_k_dense_replace": 0, "rope_parameters": YARN},
    [{"positions.scaling.magnitude": 1.0}],
)
