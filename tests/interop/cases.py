"""Small configs of every family, and mistakes in our models of them."""

from typing import Any, NamedTuple

T, V, WINDOW = 24, 64, 5
SIZES = {
    "vocab_size": V,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": T,
}
WHOLE_HEADS = {
    name: SIZES[name] for name in SIZES if name not in ("head_dim", "num_key_value_heads")
}
ROPE = {"rope_type": "default", "rope_theta": 500.0}
BIG_EPS = {"norm.eps": 1e-2}


class Case(NamedTuple):
    """A config of theirs, and changes to our model of it, each of which must show."""

    settings: dict[str, Any]
    mistakes: list[dict[str, Any]]


def scaled(rope_type: str, **settings: Any) -> dict[str, Any]:
    return SIZES | {"rope_parameters": {"rope_type": rope_type, "rope_theta": 500.0} | settings}


DENSE_CASES = {
    "gpt2": Case(
        {"vocab_size": V, "n_positions": T, "n_embd": 48, "n_layer": 3, "n_head": 4},
        [{"mlp.approximate": "none"}, {"norm.eps": 1e-2}, {"attention.n_heads": 2}],
    ),
    "gpt2 exact gelu": Case(
        {"vocab_size": V, "n_positions": T, "n_embd": 48, "n_layer": 2, "n_head": 4}
        | {"n_inner": 72, "activation_function": "gelu", "tie_word_embeddings": False},
        [{"mlp.approximate": "tanh"}],
    ),
    "llama": Case(
        SIZES | {"rope_parameters": ROPE},
        [
            {"positions.layout": "interleaved"},
            {"positions.base": 501.0},
            {"mlp": {"type": "geglu", "d_ff": 80}},
            BIG_EPS,
        ],
    ),
    "llama biases tied": Case(
        SIZES | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        [{"positions.base": 9000.0}],
    ),
    "llama linear": Case(scaled("linear", factor=3.0), [{"positions.scaling.factor": 2.0}]),
    "llama dynamic": Case(
        scaled("dynamic", factor=2.0) | {"max_position_embeddings": T // 2},
        [{"positions.scaling.factor": 1.0}],
    ),
    "llama yarn": Case(
        scaled("yarn", factor=4.0, original_max_position_embeddings=6, beta_fast=2, beta_slow=0.1),
        [{"positions.scaling.magnitude": 1.0}, {"positions.scaling.factor": 3.0}],
    ),
    "llama llama3": Case(
        scaled("llama3", factor=8.0, original_max_position_embeddings=8)
        | {"max_position_embeddings": 64},
        [{"positions.scaling.low_freq_factor": 0.1}],
    ),
    "llama longrope": Case(
        scaled(
            "longrope",
            original_max_position_embeddings=12,
            short_factor=[1.0] * 8,
            long_factor=[1.0 + i for i in range(8)],
        ),
        [{"positions.scaling.magnitude": 1.0}],
    ),
    "mistral": Case(
        SIZES | {"sliding_window": WINDOW},
        [{"attention.window": WINDOW + 1}, {"attention.window": None}],
    ),
    "qwen2": Case(
        SIZES | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        [{"attention.window": WINDOW - 1}, {"positions.base": 9000.0}],
    ),
    "qwen3": Case(
        SIZES | {"attention_bias": True},
        [{"attention.qk_norm_after_rotation": True}, {"attention.qk_norm.eps": 0.1}],
    ),
    "smollm3": Case(
        SIZES
        | {
            "pad_token_id": None,
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": WINDOW,
        },
        [{"attention.positions": None}, {"attention.window": None}],
    ),
    "gemma2": Case(
        SIZES
        | {"sliding_window": WINDOW, "query_pre_attn_scalar": 20}
        | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        [
            {"attention.window": WINDOW + 1},
            {"norm.offset": False},
            {"attention.softcap": None},
            {"head.softcap": None},
            {"attention.scale": None},
            {"embedding_scale": None},
            {"mlp": {"type": "swiglu", "d_ff": 80}},
        ],
    ),
    "gemma3_text": Case(
        SIZES
        | {"sliding_window": WINDOW, "query_pre_attn_scalar": 20, "num_hidden_layers": 7}
        | {"layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"]},
        [
            {"attention.window": WINDOW - 1},
            {"attention.qk_norm.offset": False},
            {"attention.qk_norm_after_rotation": True},
            {"attention.positions": None},
        ],
    ),
    "gemma3_text of global layers": Case(
        SIZES | {"query_pre_attn_scalar": 16, "layer_types": ["full_attention"] * 3},
        [{"positions.base": 10_000.0}],
    ),
    "olmo2": Case(
        SIZES,
        [{"residual": "pre_norm"}, {"attention.qk_norm_after_rotation": True}, {"norm.eps": 1e-2}],
    ),
    "granite": Case(
        SIZES
        | {"embedding_multiplier": 1.5, "residual_multiplier": 0.7}
        | {"attention_multiplier": 0.3, "logits_scaling": 2.0},
        [
            {"embedding_scale": None},
            {"residual": "pre_norm"},
            {"attention.scale": None},
            {"head.scale": None},
        ],
    ),
    "cohere2": Case(
        WHOLE_HEADS
        | {"num_key_value_heads": 2, "num_hidden_layers": 5, "sliding_window": WINDOW}
        | {"logit_scale": 0.5},
        [
            {"positions.layout": "half"},
            {"attention.positions": None},
            {"attention.window": WINDOW + 1},
            {"head.scale": None},
            {"norm": "rms_norm"},
        ],
    ),
    "nanochat": Case(
        {**SIZES, "final_logit_softcapping": 2.0},
        [
            {"head.softcap": None},
            {"mlp": {"type": "gelu", "d_ff": 80}},
            {"embedding_norm": None},
            {"positions.layout": "interleaved"},
        ],
    ),
    "phi3": Case(
        SIZES
        | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}, "sliding_window": WINDOW}
        | {"pad_token_id": None},
        [{"positions.fraction": 0.25}, {"attention.window": WINDOW + 1}],
    ),
    "gpt_neox": Case(
        WHOLE_HEADS | {"rope_parameters": ROPE | {"partial_rotary_factor": 0.5}},
        [{"positions.fraction": 1.0}, {"mlp.approximate": "tanh"}, {"residual": "pre_norm"}],
    ),
    "gpt_neox one after the other": Case(
        WHOLE_HEADS
        | {"use_parallel_residual": False, "hidden_act": "gelu_new", "attention_bias": False}
        | {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
        [{"residual": {"type": "parallel", "own_norms": True}}],
    ),
}
LONG = {"rope_type": "longrope", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
LONG |= {"short_factor": [1.0, 1.5, 2.0], "long_factor": [1.0, 3.0, 5.0]}
PHI = {name: value for name, value in SIZES.items() if name != "head_dim"} | {
    "pad_token_id": None,
    "partial_rotary_factor": 0.5,
    "rope_parameters": LONG,
}
DENSE_CASES |= {
    "phi3 long list": Case(
        PHI | {"original_max_position_embeddings": T // 2, "tie_word_embeddings": True},
        [{"positions.scaling.factors": (1.0, 1.5, 2.0)}, {"positions.scaling.magnitude": 1.0}],
    ),
    "phi3 short list": Case(
        PHI | {"original_max_position_embeddings": T},
        [{"positions.scaling.factors": (1.0, 3.0, 5.0)}],
    ),
    "nanochat biases": Case(
        {**SIZES, "attention_bias": True, "rope_parameters": ROPE, "rms_norm_eps": 1e-3},
        [
            {"norm.eps": 1e-6},
            {"attention.qk_norm": None, "attention.qk_norm_after_rotation": False},
        ],
    ),
}
DENSE_CASES["llama llama3"].settings["rope_parameters"] |= {
    "low_freq_factor": 1,
    "high_freq_factor": 4,
}
