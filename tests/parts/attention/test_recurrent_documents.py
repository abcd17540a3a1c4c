"""Mixers with a state, alone and between layers of softmax attention: packed and ragged rows."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.generate.generator import generate_tokens
from gptlab.kernels.places import Places
from gptlab.model.accounting import cache_bytes
from gptlab.model.gpt import GPT, Model

Tiny = Callable[..., Model]
DELTA = {"type": "gated_delta", "n_heads": 4, "n_key_heads": 2, "d_key": 6}
LINEAR = {"type": "linear", "n_heads": 4}
CONVOLUTION = {"type": "convolution", "width": 3}
MIXERS = {
    "convolution": CONVOLUTION,
    "gated_delta": DELTA,
    "linear": LINEAR,
    "hybrid": {"type": "alternating", "of": [DELTA, LINEAR, CONVOLUTION, "grouped_query"]},
}
LENGTHS = [[1, 64, 2, 80, 3], [70, 1, 1, 14, 64]]  # of the texts of each row
T = 150

every_mixer = pytest.mark.parametrize("attention", MIXERS.values(), ids=MIXERS.keys())


def build(tiny: Tiny, attention: Any, context_length: int = T) -> GPT:
    """Build a model in float64, whose every parameter matters."""
    shape = {"n_layers": 4, "context_length": context_length, "head": "untied"}
    gpt = tiny(attention=attention, positions="none", **shape).build().double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.15 * noise
    return gpt


def text(*shape: int) -> Tensor:
    return torch.randint(31, shape, generator=torch.Generator().manual_seed(1))


def packed() -> Places:
    rows = [[text for text, n in enumerate(lengths) for _ in range(n)] for lengths in LENGTHS]
    return Places.packed(torch.tensor(rows))


def in_pieces(gpt: GPT, tokens_BT: Tensor, places: Places, lengths: list[int]) -> Tensor:
    caches, read, logits = gpt.new_caches(tokens_BT.shape[1]), 0, []
    for length in lengths:
        piece = slice(read, read + length)
        logits.append(gpt(tokens_BT[:, piece], places[piece], caches))
        read += length
    return torch.cat(logits, dim=1)


def splits(length: int) -> list[list[int]]:
    """All at once, token by token, and at random, steps of single tokens among them."""
    rng = random.Random(0)
    cuts = [sorted(rng.sample(range(1, length), 12)) for _ in range(4)]
    at_random = [[b - a for a, b in zip([0, *cut], [*cut, length], strict=True)] for cut in cuts]
    return [[length], [1] * length, [length // 2, *[1] * (length - length // 2)], *at_random]


@every_mixer
@torch.no_grad()
def test_a_packed_row_gives_what_separate_rows_give(tiny: Tiny, attention: Any):
    gpt = build(tiny, attention)
    tokens_BT = text(2, T)
    logits_BTV = gpt(tokens_BT, packed())
    for row, lengths in enumerate(LENGTHS):
        for one, logits in zip(
            tokens_BT[row].split(lengths), logits_BTV[row].split(lengths), strict=True
        ):
            torch.testing.assert_close(logits, gpt(one[None])[0])
    assert (gpt(tokens_BT) - logits_BTV).abs().max() > 0.1


@every_mixer
@torch.no_grad()
def test_pieces_of_packed_rows_give_what_they_give_at_once(tiny: Tiny, attention: Any):
    """Whole rows agree where documents are told once for all of them, too."""
    gpt = build(tiny, attention)
    tokens_BT, places = text(2, T), packed()
    same = places.map(lambda x_BT: x_BT[:1])
    for where in (places, same):
        expected_BTV = gpt(tokens_BT, where)
        for lengths in splits(T):
            torch.testing.assert_close(in_pieces(gpt, tokens_BT, where, lengths), expected_BTV)


@every_mixer
@torch.no_grad()
def test_a_ragged_batch_gives_what_its_rows_give(tiny: Tiny, attention: Any):
    """Prompts of 70 and 3 tokens, the second filled up on the left; then both go on."""
    gpt = build(tiny, attention)
    tokens_BT, fill = text(2, 80), 67
    documents_BT = torch.zeros(2, 80, dtype=torch.long)
    documents_BT[1, :fill] = -1
    places = Places.packed(documents_BT)
    for lengths in splits(80):
        logits_BTV = in_pieces(gpt, tokens_BT, places, lengths)
        torch.testing.assert_close(logits_BTV[:1], gpt(tokens_BT[:1]))
        torch.testing.assert_close(logits_BTV[1:, fill:], gpt(tokens_BT[1:, fill:]))


@every_mixer
@torch.no_grad()
def test_rows_that_have_come_to_agree_may_share_their_documents(tiny: Tiny, attention: Any):
    gpt = build(tiny, attention)
    tokens_BT = text(2, 6)
    documents_BT = torch.tensor([[0] * 6, [-1] * 4 + [0] * 2])
    places, caches = Places.packed(documents_BT), gpt.new_caches(6)
    gpt(tokens_BT[:, :5], places[:5], caches)
    shared = Places(places.positions_BT[:, 5:], documents_BT[:1, 5:])
    expected_BTV = gpt(tokens_BT, places)[:, 5:]
    torch.testing.assert_close(gpt(tokens_BT[:, 5:], shared, caches), expected_BTV)


@every_mixer
def test_ragged_prompts_go_on_beyond_the_context_as_without_caches(tiny: Tiny, attention: Any):
    gpt = build(tiny, attention, context_length=24)
    with_caches, without = (logits_of_a_random_text(gpt, use_cache) for use_cache in (True, False))
    torch.testing.assert_close(with_caches, without)
    assert without.std(dim=0).max() > 0.1


def logits_of_a_random_text(gpt: GPT, use_cache: bool) -> Tensor:
    """Let prompts of 20 and 3 tokens go on at random, through a context of 24 and beyond."""
    seen, generator = [], torch.Generator().manual_seed(0)

    def sample(logits_NV: Tensor) -> Tensor:
        seen.append(logits_NV.clone())  # the next step writes over them
        return torch.randint(31, (2,), generator=generator)

    prompts = [text(20).tolist(), text(3).tolist()]
    assert len(list(generate_tokens(gpt, prompts, 40, sample, use_cache))) == 40
    return torch.stack(seen)


def test_a_cache_does_not_grow_and_its_state_is_in_float32(tiny: Tiny):
    for attention, numbers in ((DELTA, 4 * 6 * 24), (LINEAR, 4 * 12 * 13)):
        model = tiny(attention=attention, n_layers=1)
        past = 3 * (2 * 2 * 6 + 4 * 24) if attention is DELTA else 0
        for element_size in (2, 4):
            caches = cache_bytes(model, element_size)
            assert caches.per_token == 0
            assert caches.full_context == 4 * numbers + element_size * past


@torch.no_grad()
def test_a_cache_keeps_nothing_of_a_long_text_but_its_end(tiny: Tiny):
    """A view of the last inputs would keep all of them."""
    gpt = tiny(attention=DELTA, positions="none", n_layers=1).build()
    caches = gpt.new_caches(T)
    gpt(text(1, T), None, caches)
    kept = [x for x in vars(caches[0]).values() if x is not None]
    assert sum(x.untyped_storage().nbytes() for x in kept) == sum(x.nbytes for x in kept)
