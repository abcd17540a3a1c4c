"""Layers with positions of their own, and scaled ones: logits are those of `transformers`.

SmolLM 3 has layers without positions, Gemma 3 two bases (and gains of 1 + w), Llama 3.1 a scaling.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT, Model

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, T, V, WINDOW = 48, 24, 64, 5
THEIR_SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": D // 4,
    "max_position_embeddings": T,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "use_cache": False,
    "pad_token_id": 0,
}
ATTENTION = {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2}
ROTARY = {"type": "rotary", "base": 500.0}
SLOW = {"type": "rotary", "base": 5_000.0}
OURS: dict[str, Any] = {
    "vocab_size": V,
    "context_length": T,
    "d_model": D,
    "n_layers": 4,
    "positions": ROTARY,
    "norm": "rms_norm",
    "attention": ATTENTION,
    "mlp": {"type": "swiglu", "d_ff": 80},
    "head": "untied",
}
THEIR_YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 200,
    "beta_fast": 4.0,
    "beta_slow": 0.5,
}
YARN = {"type": "yarn", "factor": 4, "original_length": 200, "beta_fast": 4, "beta_slow": 0.5}
THEIR_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "original_max_position_embeddings": 40,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
LLAMA3 = {"type": "llama3", "original_length": 40}
GAIN = {"type": "rms_norm", "offset": True}
LOCAL = ATTENTION | {"window": WINDOW, "qk_norm": GAIN}
GLOBAL = ATTENTION | {"qk_norm": GAIN, "positions": SLOW}


def taking_turns(*of: dict[str, Any]) -> dict[str, Any]:
    return {"attention": {"type": "alternating", "of": list(of)}}


# their family, their settings, ours
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "SmolLM3": (
        "SmolLM3",
        {
            "no_rope_layer_interval": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        },
        taking_turns(ATTENTION, ATTENTION, ATTENTION, ATTENTION | {"positions": "none"}),
    ),
    "Gemma 3": (
        "Gemma3",
        {
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "query_pre_attn_scalar": D // 4,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
                "full_attention": {"rope_type": "default", "rope_theta": 5_000.0},
            },
        },
        taking_turns(LOCAL, GLOBAL)
        | {"norm": GAIN, "residual": "sandwich", "mlp": {"type": "geglu", "d_ff": 80}},
    ),
    "YaRN": ("Llama", {"rope_parameters": THEIR_YARN}, {"positions": ROTARY | {"scaling": YARN}}),
    "Llama 3.1": (
        "Llama",
        {"rope_parameters": THEIR_LLAMA3},
        {"positions": ROTARY | {"scaling": LLAMA3}},
    ),
}
OUR_NAMES = {
    "model.embed_tokens": "embedding",
    "model.norm": "ends.norm",
    "lm_head": "head.matrix",
    "model.layers": "blocks",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
LLAMAS_NORMS = {
    "input_layernorm": "residual.norms.0",
    "post_attention_layernorm": "residual.norms.1",
}
GEMMAS_NORMS = {
    "input_layernorm": "residual.norms.0",
    "post_attention_layernorm": "residual.output_norms.0",
    "pre_feedforward_layernorm": "residual.norms.1",
    "post_feedforward_layernorm": "residual.output_norms.1",
}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """Every model, its norms' gains perturbed."""
    models = {}
    for name, (family, settings, _) in MODELS.items():
        kind = "Gemma3TextConfig" if family == "Gemma3" else f"{family}Config"
        config = getattr(transformers, kind)(**THEIR_SIZES | settings)
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = 0.15 * torch.randn(parameter.shape, generator=generator)
                is_plain_gain = parameter.ndim == 1 and family != "Gemma3"
                parameter.copy_(1 + noise if is_plain_gain else noise)
        models[name] = model
    return models


def build(tiny: Tiny, model: Any, settings: dict[str, Any]) -> GPT:
    """Build ours with their weights."""
    gpt = tiny(**OURS | settings).build().eval()
    is_gemma = type(model).__name__.startswith("Gemma")
    weights = {}
    for name, value in model.state_dict().items():
        for their_name, our_name in (
            OUR_NAMES | (GEMMAS_NORMS if is_gemma else LLAMAS_NORMS)
        ).items():
            name = name.replace(their_name, our_name)
        weights[name] = value
    if is_gemma:  # multiplies embeddings by this; the head has a copy that it does not
        weights["embedding.weight"] = weights["embedding.weight"] * math.sqrt(D)
    gpt.load_state_dict(weights)
    return gpt


def tokens() -> Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def furthest(model: Any, gpt: GPT) -> float:
    """The largest difference between logits, which have a deviation of about 1."""
    expected_BTV = model(tokens()).logits
    assert 0.5 < expected_BTV.std() < 2
    return (gpt(tokens()) - expected_BTV).abs().max().item()


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_theirs(tiny: Tiny, theirs: dict[str, Any], name: str):
    assert furthest(theirs[name], build(tiny, theirs[name], MODELS[name][2])) <= 2e-5


NO_POSITIONS = ATTENTION | {"positions": "none"}
PLAIN_GAIN = LOCAL | {"qk_norm": "rms_norm"}
MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "positions in every layer": ("SmolLM3", {"attention": ATTENTION}),
    "none in the first of four": (
        "SmolLM3",
        taking_turns(NO_POSITIONS, ATTENTION, ATTENTION, ATTENTION),
    ),
    "one base for all": ("Gemma 3", taking_turns(LOCAL, GLOBAL | {"positions": None})),
    "bases exchanged": (
        "Gemma 3",
        taking_turns(LOCAL | {"positions": SLOW}, GLOBAL | {"positions": ROTARY})
        | {"positions": "none"},
    ),
    "gain without its offset": ("Gemma 3", taking_turns(PLAIN_GAIN, GLOBAL)),
    "no YaRN": ("YaRN", {"positions": ROTARY}),
    "YaRN without its attention factor": (
        "YaRN",
        {"positions": ROTARY | {"scaling": YARN | {"magnitude": 1}}},
    ),
    "YaRN with the ramp elsewhere": (
        "YaRN",
        {"positions": ROTARY | {"scaling": YARN | {"beta_slow": 2}}},
    ),
    "linear": (
        "Llama 3.1",
        {"positions": ROTARY | {"scaling": {"type": "linear", "factor": 8}}},
    ),
    "no scaling": ("Llama 3.1", {"positions": ROTARY}),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mistake_would_show(tiny: Tiny, theirs: dict[str, Any], mutation: str):
    name, changes = MUTATIONS[mutation]
    gpt = build(tiny, theirs[name], MODELS[name][2] | changes)
    assert furthest(theirs[name], gpt) > 1e-3
