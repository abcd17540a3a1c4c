from collections import Counter

import numpy as np
import pytest

from gptlab.data.batching import IGNORED, Batch
from gptlab.data.batching.packed import NO_DOCUMENT, PackedRows, best_fit, cut

T = 16


def text(seed: int, longest: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are their own places, and where documents of 1 to so many of them start."""
    lengths = np.random.default_rng(seed).integers(1, longest, 60)
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum(), dtype=np.uint16), starts


def epoch(rows: PackedRows, number: int = 0) -> Batch:
    return rows.take(number * rows.rows_per_epoch + np.arange(rows.rows_per_epoch))


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_predicts_every_token_once(seed: int):
    tokens, starts = text(seed)
    rows = PackedRows(tokens, starts, T, seed, reset_positions=True)
    for number in range(3):
        targets = epoch(rows, number).y_NT
        counted = np.bincount(targets[targets != IGNORED], minlength=len(tokens))
        assert counted.tolist() == [0] + [1] * (len(tokens) - 1)


@pytest.mark.parametrize("reset", [True, False])
def test_every_place_is_what_the_words_say(reset: bool):
    """A token's row, document and position, spelt out one by one."""
    tokens, starts = text(7)
    batch = epoch(PackedRows(tokens, starts, T, 3, reset_positions=reset))
    assert batch.documents_NT is not None
    assert batch.positions_NT is not None
    for x, y, documents, positions in zip(
        batch.x_NT, batch.y_NT, batch.documents_NT, batch.positions_NT, strict=True
    ):
        in_piece: Counter[int] = Counter()
        for t in range(T):
            position = in_piece[documents[t]] if reset else t
            if documents[t] == NO_DOCUMENT:
                assert (x[t], y[t]) == (0, IGNORED)
                assert (documents[t:] == NO_DOCUMENT).all()
                continue
            assert x[t] == y[t] - 1
            assert positions[t] == position
            source = np.searchsorted(starts, y[t], side="right")
            if in_piece[documents[t]]:
                assert source == np.searchsorted(starts, y[t - 1], side="right")
                assert y[t] == y[t - 1] + 1
            elif y[t] != max(1, starts[source - 1]):  # not the start: a further piece, of a row
                assert (y[t] - max(1, starts[source - 1])) % T == 0
            in_piece[documents[t]] += 1


def test_a_document_that_fits_is_never_cut():
    tokens, starts = text(1)
    lengths = np.diff(np.append(starts, len(tokens)))
    first, length = cut(starts, len(tokens), T)
    for start, n in zip(starts[1:], lengths[1:], strict=True):
        pieces = length[(first >= start) & (first < start + n)]
        assert pieces.tolist() == [T] * (n // T) + [n % T] * bool(n % T)


@pytest.mark.parametrize("seed", range(20))
def test_packing_places_every_piece_and_little_air(seed: int):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, T + 1, generator.integers(1, 300))
    counts = np.bincount(lengths, minlength=T + 1)
    packed = best_fit(counts)
    placed: Counter[int] = Counter()
    for row, times in packed:
        assert 0 < sum(row) <= T
        assert times > 0
        for n in row:
            placed[n] += times
    assert [placed[n] for n in range(1, T + 1)] == counts[1:].tolist()
    n_rows = sum(times for _, times in packed)
    assert n_rows <= best_fit_one_by_one(sorted(lengths.tolist(), reverse=True))


def best_fit_one_by_one(lengths: list[int]) -> int:
    rooms: list[int] = []
    for n in lengths:
        fitting = [room for room in rooms if room >= n]
        room = min(fitting, default=T)
        if fitting:
            rooms.remove(room)
        rooms.append(room - n)
    return len(rooms)


def test_packing_a_billion_pieces_takes_no_longer():
    counts = np.full(513, 2_000_000)
    counts[0] = 0
    packed = best_fit(counts)
    air = sum(times * (512 - sum(row)) for row, times in packed)
    assert air < 0.01 * sum(times * 512 for _, times in packed)


def test_a_row_is_the_same_whatever_it_is_fetched_with():
    tokens, starts = text(2)
    rows = PackedRows(tokens, starts, T, 0, reset_positions=True)
    n = 2 * rows.rows_per_epoch + 3
    whole = rows.take(np.arange(n))
    assert whole.documents_NT is not None
    for row in range(n - 1, -1, -1):
        alone = rows.take(np.array([row]))
        np.testing.assert_array_equal(alone.y_NT[0], whole.y_NT[row])
        assert alone.documents_NT is not None
        np.testing.assert_array_equal(alone.documents_NT[0], whole.documents_NT[row])


def test_epochs_share_rows_out_anew():
    tokens, starts = text(3, longest=9)
    rows = PackedRows(tokens, starts, T, 0, reset_positions=True)
    first, second = ({frozenset(row) for row in epoch(rows, n).y_NT.tolist()} for n in range(2))
    assert len(first & second) < len(first) / 2
