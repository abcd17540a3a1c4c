"""Attention layers give what those of `transformers` give with the same weights."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention import Mixer
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.context import Context

transformers = pytest.importorskip("transformers")

Tiny = Callable[..., Model]
D, H, K, E, T, WINDOW, BASE = 48, 4, 2, 16, 24, 5, 500.0
SIZES = {
    "hidden_size": D,
    "num_attention_heads": H,
    "num_key_value_heads": K,
    "head_dim": E,
    "max_position_embeddings": T,
    "num_hidden_layers": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
    "attn_implementation": "eager",
}
OURS = {"type": "grouped_query", "n_heads": H, "n_kv_heads": K, "d_head": E}
NORM = {"type": "rms_norm", "eps": 1e-6}

FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Qwen3": ({}, {"qk_norm": NORM}),
    "Olmo2": ({"rms_norm_eps": 1e-6}, {"qk_norm": NORM, "qk_norm_over": "width"}),
    "NanoChat": (
        {"rms_norm_eps": 1e-6, "head_dim": D // H},
        {"qk_norm": NORM, "qk_norm_after_rotation": True, "d_head": None},
    ),
    "Gemma2": (
        {"query_pre_attn_scalar": 30, "attn_logit_softcapping": 1.5, "sliding_window": WINDOW},
        {"scale": 30**-0.5, "softcap": 1.5, "window": WINDOW},
    ),
    "GptOss": (
        {"sliding_window": WINDOW, "attention_bias": True},
        {"sinks": True, "bias": True, "window": WINDOW},
    ),
    "Qwen3Next": ({}, {"qk_norm": NORM, "gate": "elementwise"}),
}
FOLDERS = {"GptOss": "gpt_oss", "Qwen3Next": "qwen3_next"}
OUR_NAMES = {
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "o_proj": "output",
    "q_norm": "query_norm",
    "k_norm": "key_norm",
    "sinks": "sinks_H",
}


def their_layer(family: str) -> tuple[nn.Module, Any]:
    """Build their attention, its weights large enough to choose, and its rotation."""
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES[family][0])
    if family == "Qwen3Next":
        config.rope_parameters["partial_rotary_factor"] = 1.0
    folder = FOLDERS.get(family, family.lower())
    module = import_module(f"transformers.models.{folder}.modeling_{folder}")
    layer = getattr(module, f"{family}Attention")(config, layer_idx=0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if "norm" in name or "sinks" in name else noise)
    return layer, getattr(module, f"{family}RotaryEmbedding")(config)


def our_weights(family: str, layer: nn.Module, mixer: Mixer) -> dict[str, Tensor]:
    """Their weights under our names; of those that we have no place for, none."""
    weights = {}
    for name, value in layer.state_dict().items():
        for their_name, our_name in OUR_NAMES.items():
            name = name.replace(their_name, our_name)
        weights[name] = value.clone()
    if family == "Qwen3Next":  # gains are offsets from 1, and a head's gate follows its query
        weights = {n: v + 1 if "norm" in n else v for n, v in weights.items()}
        query, gate = weights["query.weight"].view(H, 2, E, D).unbind(1)
        weights |= {"query.weight": query.flatten(0, 1), "gate.matrix.weight": gate.flatten(0, 1)}
    if family == "NanoChat":  # it rotates the other way, and its norms have no gains
        for name in ("query", "key"):
            weights[f"{name}.weight"].unflatten(0, (-1, 2, D // H // 2))[:, 1].neg_()
            weights[f"{name}_norm.weight"] = torch.ones(D // H)
    if family == "Olmo2":
        weights |= {
            f"{name}_norm.norm.weight": weights.pop(f"{name}_norm.weight")
            for name in ("query", "key")
        }
    return {name: value for name, value in weights.items() if name in mixer.state_dict()}


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def theirs(layer: nn.Module, rotation: Any, window: int | None) -> Tensor:
    x_BTD, positions_1T = stream(), torch.arange(T)[None]
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    hidden_TT = (distance_TT < 0) | (distance_TT >= (window or T))
    mask_11TT = torch.zeros(1, 1, T, T).masked_fill(hidden_TT, torch.finfo(torch.float32).min)
    return layer(x_BTD, rotation(x_BTD, positions_1T), mask_11TT)[0]


def our_layer(tiny: Tiny, family: str, layer: nn.Module, changes: dict[str, Any]) -> Mixer:
    attention = OURS | FAMILIES[family][1] | changes
    positions = {"type": "rotary", "base": BASE}
    mixer = tiny(attention=attention, positions=positions, n_layers=1).build().mixers()[0].eval()
    weights = our_weights(family, layer, mixer)
    assert weights.keys() == mixer.state_dict().keys() or changes
    mixer.load_state_dict(weights, strict=not changes)
    return mixer


@torch.no_grad()
def furthest(tiny: Tiny, family: str, changes: dict[str, Any]) -> float:
    layer, rotation = their_layer(family)
    expected_BTD = theirs(layer, rotation, FAMILIES[family][1].get("window"))
    assert expected_BTD.std() > 0.5
    mixer = our_layer(tiny, family, layer, changes)
    return (mixer(stream(), Context(Places.counted(0, T))) - expected_BTD).abs().max().item()


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_theirs(tiny: Tiny, family: str):
    assert furthest(tiny, family, {}) <= 2e-5


MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "another scale": ("Qwen3", {"scale": (D // H) ** -0.5}),
    "norm per head": ("Olmo2", {"qk_norm_over": "head"}),
    "width normed after rotation": ("Olmo2", {"qk_norm_after_rotation": True}),
    "scale of d_head": ("Gemma2", {"scale": None}),
    "no softcap": ("Gemma2", {"softcap": None}),
    "another softcap": ("Gemma2", {"softcap": 1.6}),
    "window + 1 under a softcap": ("Gemma2", {"window": WINDOW + 1}),
    "no sinks": ("GptOss", {"sinks": False}),
    "window - 1 beside sinks": ("GptOss", {"window": WINDOW - 1}),
    "no gate": ("Qwen3Next", {"gate": None}),
    "norm after the rotation": ("Qwen3", {"qk_norm_after_rotation": True}),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_would_show(tiny: Tiny, name: str):
    family, changes = MUTATIONS[name]
    assert furthest(tiny, family, changes) > 1e-2


def test_a_norm_with_a_gain_cannot_change_places_with_the_rotation(tiny: Tiny):
    """NanoChat's norms have no gains, so their order shows only once ours have some."""
    layer, rotation = their_layer("NanoChat")
    gain_E = torch.linspace(0.5, 2, D // H)
    layers = [
        our_layer(tiny, "NanoChat", layer, {"qk_norm_after_rotation": after})
        for after in (True, False)
    ]
    for mixer in layers:
        assert isinstance(mixer, GroupedQueryAttention)
        mixer.query_norm.load_state_dict({"weight": gain_E})

    def give_gain(norm: nn.Module, args: Any, y_BHTE: Tensor) -> Tensor:
        return gain_E * y_BHTE

    layer.get_submodule("q_norm").register_forward_hook(give_gain)
    expected_BTD = theirs(layer, rotation, None)
    with torch.no_grad():
        after, before = (mixer(stream(), Context(Places.counted(0, T))) for mixer in layers)
    torch.testing.assert_close(after, expected_BTD, rtol=0, atol=2e-5)
    assert (before - expected_BTD).abs().max() > 1e-2
