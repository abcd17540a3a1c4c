"""Layers that read the keys and values of earlier ones, against `transformers`' Gemma 3n."""

import random
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.accounting import cache_bytes
from gptlab.model.gpt import Model
from gptlab.parts.attention import Mixer
from gptlab.parts.attention.grouped_query import GroupedQueryAttention, SharedKeysAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, K, E, T, WINDOW = 48, 4, 2, 16, 24, 5
NORM = {"type": "rms_norm", "eps": 1e-6}
PLAIN: dict[str, Any] = {"type": "grouped_query", "n_heads": H, "n_kv_heads": K, "d_head": E}
FULL = PLAIN | {"scale": 1.0, "qk_norm": NORM}
LOCAL = FULL | {"window": WINDOW, "positions": {"type": "rotary", "base": 100.0}}
SHARED = {"share_kv": True}
LAYERS = [LOCAL, FULL, LOCAL, FULL | SHARED, LOCAL | SHARED, FULL | SHARED]
SOURCES = [None, None, None, 1, 2, 1]


def build(tiny: Tiny, *layers: dict[str, Any]) -> list[Mixer]:
    attention = {"type": "alternating", "of": layers}
    positions = {"type": "rotary", "base": 500.0}
    model = tiny(attention=attention, positions=positions, n_layers=len(layers), context_length=T)
    return model.build().eval().mixers()


def streams() -> list[Tensor]:
    """What each layer reads, which is not what the layers before it wrote."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, T, D, generator=generator) for _ in LAYERS]


@torch.no_grad()
def ours(mixers: list[Mixer], pieces: list[int], caches: list[Any] | None = None) -> list[Tensor]:
    outputs = []
    for start, stop in pairwise(pieces):
        context = Context(Places.counted(start, stop), caches)
        read = zip(mixers, streams(), strict=True)
        outputs.append([mixer(x_BTD[:, start:stop], context) for mixer, x_BTD in read])
    return [torch.cat(of_layer, dim=1) for of_layer in zip(*outputs, strict=True)]


@pytest.fixture(scope="module")
def theirs() -> tuple[list[nn.Module], list[Tensor]]:
    """Their layers, without the norm of values, which we have no place for; what they give."""
    transformers = pytest.importorskip("transformers")
    module: Any = import_module("transformers.models.gemma3n.modeling_gemma3n")
    config = transformers.Gemma3nTextConfig(
        hidden_size=D,
        num_hidden_layers=len(LAYERS),
        num_attention_heads=H,
        num_key_value_heads=K,
        head_dim=E,
        num_kv_shared_layers=3,
        sliding_window=WINDOW,
        intermediate_size=32,
        activation_sparsity_pattern=[0.0] * len(LAYERS),
        layer_types=["sliding_attention", "full_attention"] * 3,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 500.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
        attn_implementation="eager",
    )
    generator = torch.Generator().manual_seed(0)
    rotation = module.Gemma3nRotaryEmbedding(config)
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    layers, outputs, shared = [], [], {}
    for i, (kind, x_BTD) in enumerate(zip(config.layer_types, streams(), strict=True)):
        layer = module.Gemma3nTextAttention(config, i).eval()
        layer.v_norm = nn.Identity()
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                noise = 0.3 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1 + noise if "norm" in name else noise)
            seen = WINDOW if kind == "sliding_attention" else T
            hidden_TT = (distance_TT < 0) | (distance_TT >= seen)
            mask = torch.zeros(1, 1, T, T).masked_fill(hidden_TT, torch.finfo(torch.float32).min)
            turn = rotation(x_BTD, torch.arange(T)[None], kind)
            outputs.append(layer(x_BTD, turn, mask, shared_kv_states=shared)[0])
        layers.append(layer)
    return layers, outputs


def load(mixers: list[Mixer], layers: list[nn.Module]) -> None:
    for mixer, layer in zip(mixers, layers, strict=True):
        names = {"q": "query", "k": "key", "v": "value", "o": "output"}
        weights = {}
        for name, value in layer.state_dict().items():
            letter, kind, *_ = name.replace(".", "_").split("_")
            weights[names[letter] + ("_norm" if kind == "norm" else "") + ".weight"] = value
        mixer.load_state_dict(weights)


def furthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert all(y_BTD.std() > 0.5 for y_BTD in theirs)
    pairs = zip(ours, theirs, strict=True)
    return max((our - their).abs().max().item() for our, their in pairs)


def test_layers_read_what_those_of_gemma_3n_read(tiny: Tiny, theirs: Any):
    layers, expected = theirs
    mixers = build(tiny, *LAYERS)
    load(mixers, layers)
    assert [getattr(mixer, "source", None) for mixer in mixers] == SOURCES
    assert furthest(ours(mixers, [0, T]), expected) <= 2e-5
    rng = random.Random(0)
    for pieces in (
        [*range(T + 1)],
        *([0, *sorted(rng.sample(range(1, T), 4)), T] for _ in "12345"),
    ):
        caches = [mixer.new_cache(T) for mixer in mixers]
        assert [cache is None for cache in caches] == [s is not None for s in SOURCES]
        assert furthest(ours(mixers, pieces, caches), expected) <= 2e-5


@pytest.mark.parametrize(("layer", "source"), [(4, 0), (4, 1), (5, 2), (3, 2)])
def test_reading_another_layer_would_show(tiny: Tiny, theirs: Any, layer: int, source: int):
    layers, expected = theirs
    mixers = build(tiny, *LAYERS)
    load(mixers, layers)
    sharer, other = mixers[layer], mixers[source]
    assert isinstance(sharer, SharedKeysAttention)
    assert isinstance(other, GroupedQueryAttention)
    sharer.source = source
    other.hand_on.is_wanted = True
    assert furthest(ours(mixers, [0, T]), expected) > 1e-2


def test_what_nobody_reads_is_not_kept(tiny: Tiny):
    context = Context(Places.counted(0, T))
    for mixer, x_BTD in zip(build(tiny, *LAYERS), streams(), strict=True):
        mixer(x_BTD, context)
    assert set(context.keys_and_values) == {1, 2}


def test_sharing_every_other_layer_halves_the_cache(tiny: Tiny):
    def per_text(*of: dict[str, Any]) -> tuple[int, int]:
        counted = cache_bytes(tiny(attention={"type": "alternating", "of": of}, n_layers=4))
        return counted.per_token, counted.full_context

    every_layer = per_text(PLAIN)
    assert per_text(PLAIN, PLAIN | SHARED) == (every_layer[0] // 2, every_layer[1] // 2)
    local = PLAIN | {"window": WINDOW}
    assert per_text(local, local | SHARED) == (0, 2 * WINDOW * 2 * K * E * 2)


def test_a_sharer_has_no_keys_or_values_but_learns_the_source_s(tiny: Tiny):
    source, sharer = build(tiny, PLAIN | {"qk_norm": NORM}, PLAIN | {"qk_norm": NORM} | SHARED)
    assert {name.split(".")[0] for name, _ in sharer.named_parameters()} == {
        "query",
        "query_norm",
        "output",
    }
    context, x_BTD = Context(Places.counted(0, T)), streams()[0]
    source(x_BTD, context)
    sharer(x_BTD, context).square().sum().backward()
    assert all(p.grad is not None for n, p in source.named_parameters() if n[0] in "kv")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([PLAIN | SHARED], r"share_kv=true in layer 0 .*begin with share_kv=false"),
        (["differential", PLAIN | SHARED], r"share_kv=true in layer 1 .*of which none makes any"),
        (
            [LOCAL, FULL | SHARED],
            r"in layer 1 has window=null, positions=null, but layer 0, .* has window=5, positions="
            r"rotary\(base=100.0.*; make them equal",
        ),
        (
            [PLAIN, LOCAL, PLAIN | SHARED | {"n_kv_heads": 4, "d_head": 8}],
            r"in layer 2 has n_kv_heads=4, d_head=8, window=null, .*, but layer 1, the nearest",
        ),
        ([PLAIN, PLAIN | SHARED | {"chunk": 5}], r"has chunk=5, but layer 0, .* has chunk=null"),
        (
            [PLAIN, PLAIN | SHARED | {"value_residual": True}],
            r"value_residual=true .*share_kv=true leaves none; set one of them to false",
        ),
    ],
)
def test_nothing_to_read_is_refused_with_what_differs(tiny: Tiny, layers: list, message: str):
    with pytest.raises(ValueError, match=message):
        build(tiny, *layers)
