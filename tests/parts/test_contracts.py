"""What every variant of every slot must do, derived from the slots' folders.

A new file in a slot's folder is tested here at once; one that cannot be built by its name alone
needs a line in `REQUIRED`.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.config import variant_names
from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention import Attention
from gptlab.parts.head import Head
from gptlab.parts.initialization import Initialization
from gptlab.parts.mlp import MLP
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.positions import Positions, PositionScheme
from gptlab.parts.residual import Residual
from gptlab.parts.scaling import Scaling

Tiny = Callable[..., Model]
Parts = dict[str, Any]

LOCAL = {"type": "grouped_query", "n_heads": 6, "n_kv_heads": 2, "window": 5}
CHUNKED = {"type": "grouped_query", "n_heads": 4, "chunk": 5}
LATENT = {"type": "latent", "n_heads": 3}
OWN_BASE = LOCAL | {"positions": {"type": "rotary", "base": 100.0}}
OWN_NONE = {"type": "grouped_query", "positions": "none"}
DELTA = {"type": "gated_delta", "n_heads": 4, "n_key_heads": 2, "d_key": 6}
HYBRID = {"type": "alternating", "of": [DELTA, "grouped_query"]}
SHARES = {"type": "normalized", "n_heads": 4, "n_kv_heads": 2, "window": 5}
CLAMPED = {"type": "clamped_swiglu", "limit": 0.5, "bias": True}
EXPERTS = {"type": "mixture_of_experts", "n_experts": 4}
REQUIRED: dict[str, Parts] = {  # by variant; with the slot where two have one of this name
    "alternating": {"of": [LOCAL, "grouped_query"]},
    "latent": {"n_heads": 3},  # heads wide enough for half of `d_rope` to be turned
    "scaling.linear": {"factor": 3},
    "ntk": {"factor": 3},
    "dynamic_ntk": {"original_length": 6},
    "yarn": {"factor": 3},
    "l2": {"length": 7},  # that of a vector of 48 ones; with 1 a model of this size learns slowly
    "gated_delta": {"n_heads": 4},  # one of the 6 reads so little that its norm is of rounding
    "longrope": {"original_length": 6, "factors": [1.5, 3]},
    "mixture_of_experts": {"n_experts": 4},  # few enough for each to get one of the few tokens
}
SETTINGS_WORTH_IT: dict[str, list[Parts]] = {
    "attention": [
        LOCAL | {"qk_norm": "rms_norm"},
        {"type": "grouped_query", "n_kv_heads": 1, "bias": True},
        {"type": "grouped_query", "bias": "qkv", "gate": "head"},
        {"type": "grouped_query", "n_heads": 4, "window": 2},
        {"type": "grouped_query", "n_heads": 5, "d_head": 16, "scale": 0.1, "softcap": 2.0},
        {"type": "grouped_query", "n_heads": 4, "sinks": True, "gate": "elementwise"},
        LOCAL | {"softcap": 2.0, "sinks": True, "gate": "head"},
        LOCAL | {"sinks": True, "value_residual": True},
        LOCAL | {"qk_norm": "rms_norm", "qk_norm_over": "width"},
        LOCAL | {"qk_norm": "rms_norm", "qk_norm_after_rotation": True},
        {"type": "differential", "n_kv_heads": 2, "window": 5},
        {"type": "differential", "qk_norm": "rms_norm", "positions": "rotary"},
        {"type": "alternating", "of": [OWN_BASE, OWN_NONE]},
        HYBRID,
        {"type": "gated_delta", "decay": False, "negative_eigenvalues": True, "convolution": 1},
        {"type": "alternating", "of": [{"type": "convolution", "width": 1}, "grouped_query"]},
        {"type": "linear", "n_heads": 4, "divide": "norm"},
        {"type": "linear", "n_heads": 4, "feature_map": "identity", "divide": "norm"},
        {"type": "alternating", "of": [LOCAL, LOCAL | {"share_kv": True}]},
        {"type": "alternating", "of": [SHARES, SHARES | {"share_kv": True}]},
        {"type": "alternating", "of": [CHUNKED, "grouped_query"]},
        {"type": "alternating", "of": [LOCAL], "last": LATENT | {"d_query_latent": 20}},
        LATENT | {"window": 5, "d_latent": 20, "d_rope": 4, "d_value": 10},
    ],
    "positions": [
        {"type": "rotary", "layout": "interleaved"},
        {"type": "rotary", "fraction": 0.5},
        {"type": "rotary", "fraction": 0.5, "proportional": True},
        {"type": "sinusoidal", "scale": False},
    ],
    "head": [
        {"type": "tied", "softcap": 5.0, "scale": 2.0},
        {"type": "untied", "softcap": 5.0, "z_loss": 1e-3},
    ],
    "norm": [
        {"type": "layer_norm", "bias": False},
        {"type": "layer_norm", "affine": False, "bias": False},
        {"type": "rms_norm", "affine": False},
        {"type": "rms_norm", "offset": True},
        {"type": "rms_norm", "offset": True, "cast": "llama"},
    ],
    "mlp": [
        EXPERTS | {"top_k": 1, "renormalize": False, "score": "sigmoid", "shared": "gelu"},
        EXPERTS | {"n_groups": 2, "top_groups": 1, "load_bias_step": 0.01, "balance_loss": 0},
        EXPERTS | {"expert": CLAMPED, "router_bias": True, "routed_scale": 2},
        EXPERTS | {"dense_layers": [CLAMPED], "router_z_loss": 1e-3},
    ],
    "residual": [
        {"type": "parallel", "own_norms": True},
        {"type": "scaled", "learned": "branch", "scale": 0},
        {"type": "scaled", "learned": None, "scale": 0.22},
        {"type": "initial_mix", "initial_weight": 0.1},
        {"type": "hyper_connections", "n_streams": 3, "dynamic": False},
        {"type": "hyper_connections", "n_streams": 1},
        {"type": "manifold_hyper_connections", "n_streams": 2, "keep_bias": 8, "read_bias": 0},
    ],
}


def variants(name: str, slot: Any) -> list[Parts]:
    """Every variant of a slot, and settings of it that take another path."""
    by_name = [
        {"type": variant} | REQUIRED.get(variant, {}) | REQUIRED.get(f"{name}.{variant}", {})
        for variant in variant_names(slot)
    ]
    return by_name + SETTINGS_WORTH_IT.get(name, [])


OTHER_SLOTS = {
    "norm": Norm,
    "mlp": MLP,
    "residual": Residual,
    "head": Head,
    "initialization": Initialization,
}


def go_together(attention: Parts, positions: Parts) -> bool:
    """Whether some layer takes the model's positions, if these act inside of attention."""
    scheme = Positions.parse(positions).build(48, 24)
    needs = Needs(48, 2, 24, 0.0, LayerNorm(), PositionScheme())
    for layer in range(needs.n_layers):
        Attention.parse(attention).build(needs, layer)
    return scheme.marks_embeddings() or positions["type"] == "none" or "positions" in needs.used


CASES: list[Parts] = [
    {"attention": attention, "positions": positions}
    for attention in variants("attention", Attention)
    for positions in variants("positions", Positions)
    if go_together(attention, positions)
]
CASES += [{name: part} for name, slot in OTHER_SLOTS.items() for part in variants(name, slot)]
CASES += [
    {"positions": {"type": "rotary", "scaling": scaling}}
    for scaling in variants("scaling", Scaling)
]
T, WINDOW = 20, 5


def label(parts: Parts) -> str:
    words = [
        f"{value}" if name == "type" else f"{name}={value}"
        for part in parts.values()
        for name, value in part.items()
        if name != "of"
    ]
    return " ".join(words)


every_case = pytest.mark.parametrize("parts", CASES, ids=label)


def build(tiny: Tiny, parts: Parts) -> GPT:
    """Build a model whose every parameter matters: none zero, no norm the identity."""
    gpt = tiny(**parts).build().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return gpt


def text(B: int = 2, length: int = T) -> Tensor:
    return torch.randint(31, (B, length), generator=torch.Generator().manual_seed(1))


@every_case
def test_logits_have_their_shape_and_type(tiny: Tiny, parts: Parts):
    logits_BTV = build(tiny, parts)(text(3, 7))
    assert logits_BTV.shape == (3, 7, 31)
    assert logits_BTV.dtype == torch.float32


@every_case
@torch.no_grad()
def test_no_token_sees_a_later_one(tiny: Tiny, parts: Parts):
    """Row b has token b changed: logits before it stay, its own and the next one's do not."""
    gpt = build(tiny, parts)
    tokens_BT = text(1).repeat(T, 1)
    edited_BT = (tokens_BT + torch.eye(T, dtype=torch.long)) % 31
    change_BT = (gpt(edited_BT) - gpt(tokens_BT)).abs().amax(dim=-1)
    assert change_BT.tril(-1).max() < 1e-5
    assert change_BT.diagonal().min() > 0.1
    assert change_BT.diagonal(1).min() > 1e-3


@every_case
def test_every_parameter_gets_a_gradient(tiny: Tiny, parts: Parts):
    gpt = build(tiny, parts)
    gpt.loss(text(), text().roll(-1, dims=1)).backward()
    gradients = {name: parameter.grad for name, parameter in gpt.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    silent = [name for name, g in gradients.items() if g is not None and g.norm() < 1e-6]
    assert [name for name in silent if not is_without_effect(name, parts)] == []


def is_without_effect(name: str, parts: Parts) -> bool:
    """Adding the same to every key changes no softmax, unless rotation makes keys differ."""
    rotates = parts.get("positions", {}).get("type") == "rotary"
    return name.endswith("attention.key.bias") and not rotates


@every_case
@torch.no_grad()
def test_a_text_in_pieces_gives_what_it_gives_at_once(tiny: Tiny, parts: Parts):
    gpt, tokens_BT = build(tiny, parts), text()
    expected_BTV = gpt(tokens_BT)
    for pieces in splits():
        caches, read = gpt.new_caches(T), 0
        logits = []
        for length in pieces:
            places = Places.counted(read, read + length)
            logits.append(gpt(tokens_BT[:, read : read + length], places, caches))
            read += length
        torch.testing.assert_close(torch.cat(logits, dim=1), expected_BTV, rtol=1e-4, atol=2e-5)


def splits() -> list[list[int]]:
    """Token by token, all at once, on and beside the window's edge, and ten at random."""
    W = WINDOW
    edges = [[W, 1], [W - 1, 1, 1], [W + 1, 1], [1, W], [2 * W, W - 1], [W, W], [3, W - 1, W + 1]]
    rng = random.Random(0)
    cuts = [sorted(rng.sample(range(1, T), rng.randint(1, 6))) for _ in range(10)]
    at_random = [[b - a for a, b in zip([0, *cut], [*cut, T], strict=True)] for cut in cuts]
    return [[1] * T, [T], *([*edge, T - sum(edge)] for edge in edges), *at_random]


@every_case
def test_training_lowers_the_loss(tiny: Tiny, parts: Parts):
    gpt = tiny(**parts).build(seed=3).train()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3)
    tokens_BT = text()
    losses = []
    for _ in range(10):
        loss = gpt.loss(tokens_BT[:, :-1], tokens_BT[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


@every_case
def test_yaml_gives_the_same_model(tiny: Tiny, parts: Parts):
    model = tiny(**parts)
    assert Model.from_yaml(model.to_yaml()) == model


@every_case
def test_the_meta_device_gives_the_same_shapes(tiny: Tiny, parts: Parts):
    with torch.device("meta"):
        shapes = {name: x.shape for name, x in tiny(**parts).build().named_parameters()}
        assert all(x.is_meta for x in tiny(**parts).build().parameters())
    assert shapes == {name: x.shape for name, x in tiny(**parts).build().named_parameters()}


@every_case
@torch.no_grad()
def test_bfloat16_stays_close(tiny: Tiny, parts: Parts):
    gpt = tiny(**parts).build().eval()
    expected_BTV = gpt(text())
    logits_BTV = gpt.bfloat16()(text())
    assert logits_BTV.dtype == torch.float32
    error = (logits_BTV - expected_BTV).norm() / expected_BTV.norm()
    assert 0 < error < 0.02
