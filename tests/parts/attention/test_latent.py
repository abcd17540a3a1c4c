"""Multi-head latent attention: the paper's equations, its two forms, and what it remembers."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.kernels.rotation import turn_interleaved
from gptlab.model.accounting import cache_bytes
from gptlab.model.gpt import Model
from gptlab.parts.attention.latent import LatentAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, C, N, R, V, T = 48, 4, 20, 10, 6, 14, 24
SIZES = {"n_heads": H, "d_latent": C, "d_nope": N, "d_rope": R, "d_value": V}
ROTARY = {"type": "rotary", "base": 500.0, "layout": "interleaved"}


def config(tiny: Tiny, **changes: Any) -> Model:
    attention = {"type": "latent"} | SIZES | changes
    norm = {"type": "rms_norm", "eps": 1e-6}
    outside = "none" if attention.get("positions") else ROTARY
    return tiny(attention=attention, norm=norm, positions=outside, n_layers=1, context_length=400)


def build(tiny: Tiny, **changes: Any) -> LatentAttention:
    """Build in float64 with weights large enough to choose."""
    mixer = config(tiny, **changes).build().mixers()[0].eval().double()
    assert isinstance(mixer, LatentAttention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mixer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    return mixer


def stream(length: int = T) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, length, D, generator=generator, dtype=torch.float64)


def context(start: int, stop: int, cache: Any = None) -> Context:
    return Context(Places.counted(start, stop, torch.device("cpu")), cache and [cache])


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def rotated(x_BTR: Tensor) -> Tensor:
    angle = torch.arange(T)[:, None] * 500.0 ** (-torch.arange(0, R, 2) / R)
    angle_TR = angle.double().repeat_interleave(2, dim=-1)
    return x_BTR * angle_TR.cos() + turn_interleaved(x_BTR) * angle_TR.sin()


def by_hand(mixer: LatentAttention, x_BTD: Tensor, window: int | None = None) -> Tensor:
    """The paper's equations, a head at a time."""
    weights = mixer.state_dict()
    q_BTX = x_BTD @ weights["query.weight"].T
    c_BTC = rms(x_BTD @ weights["latent.0.weight"].T, weights["latent.1.weight"])
    shared_BTR = rotated(x_BTD @ weights["shared_key.weight"].T)
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    hidden_TT = (distance_TT < 0) | (distance_TT >= (window or T))
    heads = []
    for h in range(H):
        query_BTE = q_BTX[..., h * (N + R) : (h + 1) * (N + R)]
        nope_BTN, rope_BTR = query_BTE[..., :N], rotated(query_BTE[..., N:])
        key_BTN = c_BTC @ weights["key.weight"][h * N : (h + 1) * N].T
        value_BTV = c_BTC @ weights["value.weight"][h * V : (h + 1) * V].T
        scores_BTT = (nope_BTN @ key_BTN.mT + rope_BTR @ shared_BTR.mT) / (N + R) ** 0.5
        heads.append(scores_BTT.masked_fill(hidden_TT, -torch.inf).softmax(-1) @ value_BTV)
    return torch.cat(heads, -1) @ weights["output.weight"].T


@pytest.mark.parametrize("window", [None, 5])
@torch.no_grad()
def test_outputs_are_those_of_the_equations(tiny: Tiny, window: int | None):
    mixer = build(tiny, window=window)
    y_BTD = mixer(stream(), context(0, T))
    torch.testing.assert_close(y_BTD, by_hand(mixer, stream(), window), rtol=0, atol=1e-6)
    assert (y_BTD - by_hand(mixer, stream(), (window or T) - 1)).abs().max() > 1e-2


VARIANTS: list[dict[str, Any]] = [
    {},
    {"d_query_latent": 12},
    {"window": 5},
    {"window": 130, "d_value": 3},
    {"positions": "alibi", "scale": 0.2},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@torch.no_grad()
def test_absorbed_is_expanded(tiny: Tiny, changes: dict, monkeypatch: pytest.MonkeyPatch):
    """For equal weights: texts at once in either form, and in any pieces in both."""
    mixer, length = build(tiny, **changes), 300
    x_BTD = stream(length)
    expected_BTD = mixer(x_BTD, context(0, length))
    rng = random.Random(0)
    at_random = [sorted(rng.sample(range(1, length), 5)) for _ in range(3)]
    for cuts in ([1], [4, 5, 6], [128, 129, 130], [*range(290, 300)], *at_random):
        cache = mixer.new_cache(length)
        pieces = [
            mixer(x_BTD[:, start:stop], context(start, stop, cache))
            for start, stop in zip([0, *cuts], [*cuts, length], strict=True)
        ]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected_BTD, rtol=0, atol=1e-10)
    monkeypatch.setattr(mixer, "expanded", mixer.absorbed)
    at_once_BTD = mixer(x_BTD, context(0, length))
    torch.testing.assert_close(at_once_BTD, expected_BTD, rtol=0, atol=1e-10)


@torch.no_grad()
def test_each_form_is_used_where_it_is_cheaper(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    mixer, used = build(tiny), []
    for name in ("expanded", "absorbed"):
        form = getattr(mixer, name)
        monkeypatch.setattr(mixer, name, lambda *x, n=name, f=form: used.append(n) or f(*x))
    cache = mixer.new_cache(T)
    mixer(stream(), context(0, T))
    mixer(stream()[:, :10], context(0, 10, cache))
    mixer(stream()[:, 10:11], context(10, 11, cache))
    assert used == ["expanded", "expanded", "absorbed"]


@torch.no_grad()
def test_a_cache_holds_normed_latents_and_rotated_keys_and_nothing_else(tiny: Tiny):
    mixer, cache = build(tiny), build(tiny).new_cache(T)
    mixer(stream(), context(0, T, cache))
    weights = mixer.state_dict()
    latent_BTC = rms(stream() @ weights["latent.0.weight"].T, weights["latent.1.weight"])
    key_BTR = rotated(stream() @ weights["shared_key.weight"].T)
    expected_B1TM = torch.cat([latent_BTC, key_BTR], dim=-1)[:, None]
    torch.testing.assert_close(cache.keys_BKSE, expected_B1TM, rtol=0, atol=1e-6)
    assert cache.values_BKSE.numel() == 0


def test_cache_bytes_are_those_of_the_latent_and_the_shared_key(tiny: Tiny):
    full = cache_bytes(config(tiny), element_size=2)
    assert full.per_token == 2 * (C + R)
    assert full.full_context == 400 * 2 * (C + R)
    windowed = cache_bytes(config(tiny, window=5), element_size=4)
    assert (windowed.per_token, windowed.full_context) == (0, 5 * 4 * (C + R))


def test_widths_are_in_the_papers_proportions(tiny: Tiny):
    """DeepSeek-V2 has d_nope = d_value = 128, d_rope = 64 and d_latent = 512."""
    nulls = dict.fromkeys(("d_latent", "d_nope", "d_rope", "d_value"))
    shapes = {n: tuple(p.shape) for n, p in build(tiny, **nulls).named_parameters()}
    assert shapes == {
        "query.weight": (H * 18, D),
        "latent.0.weight": (48, D),
        "latent.1.weight": (48,),
        "shared_key.weight": (6, D),
        "key.weight": (H * 12, 48),
        "value.weight": (H * 12, 48),
        "output.weight": (D, H * 12),
    }
    compressed = build(tiny, d_query_latent=12).query
    assert isinstance(compressed, nn.Sequential)
    assert [tuple(p.shape) for p in compressed.parameters()] == [(12, D), (12,), (H * (N + R), 12)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5, "d_nope": None}, r"n_heads=5 does not divide .*=48; .*or set d_nope"),
        ({"d_rope": 5}, r"model\.positions\.fraction=1.0 of d_head=5 leaves 5 dimensions"),
        ({"positions": "learned"}, r"model\.attention\.positions=learned marks the token embed"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny: Tiny, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        config(tiny, **changes).build()
