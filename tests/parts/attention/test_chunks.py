"""Attention in chunks, as in Llama 4: a token sees those before it with the same t // chunk."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels.attention import visible_keys
from gptlab.kernels.places import Places, visible
from gptlab.model.accounting import cache_bytes
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, K, T = 48, 4, 2, 300
CHUNKS = [1, 7, 64, 127, 128, 129, 150, 300, 1000]


def config(tiny: Tiny, chunk: int | None, **settings: Any) -> Model:
    attention = {"type": "grouped_query", "n_heads": H, "n_kv_heads": K, "chunk": chunk}
    positions = settings.pop("positions", "rotary")
    sizes = {"n_layers": 1, "context_length": T, "positions": positions}
    return tiny(attention=attention | settings, **sizes)


def build(tiny: Tiny, chunk: int | None, **settings: Any) -> GroupedQueryAttention:
    mixer = config(tiny, chunk, **settings).build().mixers()[0].eval().double()
    assert isinstance(mixer, GroupedQueryAttention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mixer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    return mixer


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def read(mixer: GroupedQueryAttention, pieces: list[int], cache: Any = None) -> Tensor:
    return torch.cat(
        [
            mixer(stream()[:, a:b], Context(Places.counted(a, b), cache and [cache]))
            for a, b in pairwise(pieces)
        ],
        dim=1,
    )


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("chunk", CHUNKS)
@torch.no_grad()
def test_a_text_is_read_as_if_each_chunk_were_a_text(tiny: Tiny, chunk: int, positions: str):
    """Rotation and ALiBi know distances only, but for float32: a chunk may as well begin at 0."""
    whole, alone = build(tiny, chunk, positions=positions), build(tiny, None, positions=positions)
    y_BTD = read(whole, [0, T])
    chunks = [
        alone(x_BTD, Context(Places.counted(0, x_BTD.shape[1])))
        for x_BTD in stream().split(chunk, dim=1)
    ]
    torch.testing.assert_close(y_BTD, torch.cat(chunks, dim=1), rtol=0, atol=2e-4)
    if chunk < T:
        assert (y_BTD - read(build(tiny, chunk + 1, positions=positions), [0, T])).abs().max() > 0.1


@pytest.mark.parametrize("chunk", [1, 7, 128, 129, 1000])
@torch.no_grad()
def test_pieces_give_what_a_text_gives_at_once(tiny: Tiny, chunk: int):
    mixer = build(tiny, chunk)
    expected_BTD = read(mixer, [0, T])
    rng = random.Random(chunk)
    edges = [0, *(t for t in (chunk - 1, chunk, chunk + 1, 2 * chunk + 1) if 0 < t < T), T]
    at_random = [[0, *sorted(rng.sample(range(1, T), 6)), T] for _ in range(3)]
    for pieces in (sorted(set(edges)), [*range(12), T], [0, *range(250, T + 1)], *at_random):
        cache = mixer.new_cache(T)
        y_BTD = read(mixer, pieces, cache)
        torch.testing.assert_close(y_BTD, expected_BTD, rtol=0, atol=1e-6)
        assert cache.size == min(chunk, T)


@pytest.mark.parametrize("n_padding", [0, 1, 5, 8])
def test_what_is_seen_is_what_llama_4_shows(n_padding: int):
    masks = pytest.importorskip("transformers.masking_utils")
    theirs = masks.chunked_causal_mask_function(7, torch.tensor([n_padding]))
    t_T = torch.arange(n_padding, 30)
    expected_TT = torch.stack([torch.stack([theirs(0, 0, t, s) for s in t_T]) for t in t_T])
    documents_1T = torch.ones(1, 30, dtype=torch.long)
    documents_1T[:, :n_padding] = 0
    places = Places.packed(documents_1T)
    ours_TT = visible(places, places, chunk=7)[0, n_padding:, n_padding:]
    assert torch.equal(ours_TT, expected_TT)
    window_TT = visible(places, places, window=7)[0, n_padding:, n_padding:]
    assert not torch.equal(window_TT, expected_TT)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_scores_count_the_keys_that_are_seen(tiny: Tiny, chunk: int):
    places = Places.counted(0, T)
    seen = visible(places, places, chunk=chunk).sum().item() / T
    assert visible_keys(T, None, chunk) == pytest.approx(seen)
    assert build(tiny, chunk).score_flops(T) == pytest.approx(4 * D * seen)


def test_a_cache_holds_a_chunk(tiny: Tiny):
    counted = cache_bytes(config(tiny, chunk=7), element_size=4)
    assert (counted.per_token, counted.full_context) == (0, 7 * 2 * K * D // H * 4)


def test_a_chunk_and_a_window_are_refused_together(tiny: Tiny):
    message = r"model\.attention\.window=3 and chunk=7 both say .*; set one of them to null"
    with pytest.raises(ValueError, match=message):
        build(tiny, 7, window=3)
