"""What every variant of every slot must do with rows of several texts, and with rows filled up.

A row may be packed: several documents, each counted from 0, that see nothing of one another. Texts
of different lengths stand in one batch behind fillers, a document of their own.
"""

import pytest
import torch
from test_contracts import Parts, Tiny, build, every_case, splits, text
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT

LENGTHS = [[9, 4, 1, 6], [2, 12, 6]]  # of the documents of each row: within a window of 5, and not
FILLERS = [9, 0, 4]
T = 20


def places_of(lengths: list[list[int]]) -> Places:
    counts = [torch.tensor(row) for row in lengths]
    rows = [torch.arange(len(row)).repeat_interleave(row) for row in counts]
    return Places.packed(torch.stack(rows))


def alone(gpt: GPT, tokens_BT: Tensor, lengths: list[list[int]]) -> Tensor:
    """Logits of every document, read in a row of its own."""
    rows = [
        torch.cat([gpt(tokens_1T) for tokens_1T in tokens_T[None].split(row, dim=1)], dim=1)
        for tokens_T, row in zip(tokens_BT, lengths, strict=True)
    ]
    return torch.cat(rows)


@every_case
@torch.no_grad()
def test_a_packed_row_gives_what_its_documents_give_alone(tiny: Tiny, parts: Parts):
    gpt, tokens_BT = build(tiny, parts), text()
    expected_BTV = alone(gpt, tokens_BT, LENGTHS)
    packed_BTV = gpt(tokens_BT, places_of(LENGTHS))
    torch.testing.assert_close(packed_BTV, expected_BTV, rtol=1e-4, atol=2e-5)


@every_case
@torch.no_grad()
def test_no_document_sees_another(tiny: Tiny, parts: Parts):
    """A document's last token is edited: it counts where it stands, and nowhere else."""
    gpt, places, tokens_BT = build(tiny, parts), places_of(LENGTHS), text()
    edited_BT = tokens_BT.clone()
    edited_BT[0, 8] = (edited_BT[0, 8] + 1) % 31
    change_BT = (gpt(edited_BT, places) - gpt(tokens_BT, places)).abs().amax(dim=-1)
    assert change_BT[0, 8] > 0.1
    change_BT[0, 8] = 0
    assert change_BT.max() < 1e-5


@every_case
@torch.no_grad()
def test_rows_filled_up_give_what_their_texts_give_alone(tiny: Tiny, parts: Parts):
    """At once and with caches: a prompt and then token by token, and in pieces at random."""
    gpt, tokens_BT = build(tiny, parts), text(3)
    lengths = [[fillers, T - fillers] if fillers else [T] for fillers in FILLERS]
    places, expected_BTV = places_of(lengths), alone(gpt, tokens_BT, lengths)
    is_text_BT = torch.arange(T) >= torch.tensor(FILLERS)[:, None]
    for pieces in (None, [11] + [1] * 9, *splits()[-5:]):
        logits_BTV = in_pieces(gpt, tokens_BT, places, pieces)
        torch.testing.assert_close(
            logits_BTV[is_text_BT], expected_BTV[is_text_BT], rtol=1e-4, atol=2e-5
        )


def in_pieces(gpt: GPT, tokens_BT: Tensor, places: Places, pieces: list[int] | None) -> Tensor:
    """Logits with caches, or without any for None."""
    if pieces is None:
        return gpt(tokens_BT, places)
    caches, logits, read = gpt.new_caches(T), [], 0
    for length in pieces:
        new = slice(read, read + length)
        logits.append(gpt(tokens_BT[:, new], places[new], caches))
        read += length
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@torch.no_grad()
def test_documents_that_saw_each_other_would_show(tiny: Tiny, positions: str):
    gpt, tokens_BT = build(tiny, {"positions": positions}), text()
    expected_BTV = alone(gpt, tokens_BT, LENGTHS)
    right = places_of(LENGTHS)
    for wrong in (Places(right.positions_BT), Places.counted(0, T)):
        assert (gpt(tokens_BT, wrong) - expected_BTV).abs().max() > 0.1
