"""Logits equal those of `transformers`' Llama, Mistral and Qwen 3 with the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention._query_key_norm import OneByOne, rotate_then_norm
from gptlab.parts.attention.grouped_query import GroupedQueryAttention

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, L, T, V, WINDOW = 48, 3, 24, 64, 5
THEIR_SIZES = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 80,
    "num_hidden_layers": L,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": D // 4,
    "max_position_embeddings": T,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "tie_word_embeddings": False,
    "use_cache": False,
}
ATTENTION = {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2}
ROTARY = {"type": "rotary", "base": 500.0}
OURS: dict[str, Any] = {
    "vocab_size": V,
    "context_length": T,
    "d_model": D,
    "n_layers": L,
    "positions": ROTARY,
    "norm": "rms_norm",
    "attention": ATTENTION,
    "mlp": {"type": "swiglu", "d_ff": 80},
    "head": "untied",
}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Llama": ({}, {}),
    "Mistral": ({"sliding_window": WINDOW}, {"attention": ATTENTION | {"window": WINDOW}}),
    "Qwen3": ({}, {"attention": ATTENTION | {"qk_norm": "rms_norm"}}),
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
    "post_attention_layernorm": "residual.norms.1",  # stands before the MLP
    "input_layernorm": "residual.norms.0",
}


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """A model of each family, its norms' gains perturbed."""
    models = {}
    for family, (settings, _) in FAMILIES.items():
        config = getattr(transformers, f"{family}Config")(**THEIR_SIZES | settings)
        model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = 0.15 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1 + noise if parameter.ndim == 1 else noise)
        models[family] = model
    return models


def build(tiny: Tiny, model: Any, settings: dict[str, Any]) -> GPT:
    """Build ours with their weights, without those that a change has no place for."""
    gpt = tiny(**OURS | settings).build().eval()
    weights = {}
    for name, value in model.state_dict().items():
        for their_name, our_name in OUR_NAMES.items():
            name = name.replace(their_name, our_name)
        weights[name] = value
    names = gpt.state_dict().keys()
    assert names <= weights.keys()
    gpt.load_state_dict({name: weights[name] for name in names})
    return gpt


def tokens() -> Tensor:
    return torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def furthest(model: Any, gpt: GPT) -> float:
    """The largest difference between logits, which have a deviation of about 1."""
    expected_BTV = model(tokens()).logits
    assert 0.5 < expected_BTV.std() < 2
    return (gpt(tokens()) - expected_BTV).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_theirs(tiny: Tiny, theirs: dict[str, Any], family: str):
    gpt = build(tiny, theirs[family], FAMILIES[family][1])
    assert len(gpt.state_dict()) == len(theirs[family].state_dict())
    assert furthest(theirs[family], gpt) <= 2e-5


MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "interleaved layout": ("Llama", {"positions": ROTARY | {"layout": "interleaved"}}),
    "base of 10,000": ("Llama", {"positions": "rotary"}),
    "half of each head rotated": ("Llama", {"positions": ROTARY | {"fraction": 0.5}}),
    "eps of 1e-3": ("Llama", {"norm": {"type": "rms_norm", "eps": 1e-3}}),
    "LayerNorm": ("Llama", {"norm": {"type": "layer_norm", "bias": False}}),
    "GeGLU": ("Llama", {"mlp": {"type": "geglu", "d_ff": 80}}),
    "tied head": ("Llama", {"head": "tied"}),
    "a window": ("Llama", {"attention": ATTENTION | {"window": T - 1}}),
    "window + 1": ("Mistral", {"attention": ATTENTION | {"window": WINDOW + 1}}),
    "window - 1": ("Mistral", {"attention": ATTENTION | {"window": WINDOW - 1}}),
    "no window": ("Mistral", {}),
    "no norm of queries and keys": ("Qwen3", {}),
    "LayerNorm of queries and keys": (
        "Qwen3",
        {"attention": ATTENTION | {"qk_norm": {"type": "layer_norm", "bias": False}}},
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_would_show(tiny: Tiny, theirs: dict[str, Any], name: str):
    family, changes = MUTATIONS[name]
    assert furthest(theirs[family], build(tiny, theirs[family], changes)) > 1e-3


def test_norms_after_the_rotation_would_show(tiny: Tiny, theirs: dict[str, Any]):
    gpt = build(tiny, theirs["Qwen3"], FAMILIES["Qwen3"][1])
    for mixer in gpt.mixers():
        assert isinstance(mixer, GroupedQueryAttention)
        norm_after_rotation(mixer)
    assert furthest(theirs["Qwen3"], gpt) > 1e-2


def norm_after_rotation(mixer: GroupedQueryAttention) -> None:
    """Make the layer rotate what it norms."""
    mixer.mark = OneByOne(rotate_then_norm, mixer.mark.one_by_one.rotate)
