import numpy as np
import pytest

from gptlab.data.batching import IGNORED, Batch
from gptlab.data.batching.epoch import Windows

SIZES = [(1000, 10, 7), (999, 10, 99), (1009, 10, 250), (25, 10, 3), (11, 10, 4), (40, 1, 6)]
each_size = pytest.mark.parametrize(("n_tokens", "context_length", "batch_size"), SIZES)


def batches(rows: Windows, batch_size: int, n: int) -> list[Batch]:
    return [rows.take(np.arange(s * batch_size, (s + 1) * batch_size)) for s in range(n)]


@each_size
def test_a_row_is_a_window_of_the_ring_and_the_tokens_that_follow(
    n_tokens: int, context_length: int, batch_size: int
):
    tokens = np.random.default_rng(0).integers(0, 60_000, n_tokens).astype(np.uint16)
    places = Windows(np.arange(n_tokens, dtype=np.uint32), context_length, seed=5)
    rows = Windows(tokens, context_length, seed=5)
    for batch, at in zip(*(batches(r, batch_size, 20) for r in (rows, places)), strict=True):
        assert batch.x_NT.shape == batch.y_NT.shape == (batch_size, context_length)
        assert batch.x_NT.dtype == batch.y_NT.dtype == np.int64
        ring = (at.x_NT[:, :1] + np.arange(context_length)) % (n_tokens - 1)
        np.testing.assert_array_equal(at.x_NT, ring)
        np.testing.assert_array_equal(batch.x_NT, tokens[ring])
        counts = batch.y_NT != IGNORED
        np.testing.assert_array_equal(batch.y_NT[counts], tokens[ring + 1][counts])


@each_size
def test_an_epoch_predicts_every_token_once(n_tokens: int, context_length: int, batch_size: int):
    rows = Windows(np.arange(n_tokens), context_length, seed=1)
    for epoch in range(5):
        numbers = epoch * rows.rows_per_epoch + np.arange(rows.rows_per_epoch)
        targets = rows.take(numbers).y_NT
        counted = np.bincount(targets[targets != IGNORED], minlength=n_tokens)
        assert counted.tolist() == [0] + [1] * (n_tokens - 1)


def test_epochs_differ_in_phase_and_order():
    rows = Windows(np.arange(100), 10, seed=1)
    firsts = rows.take(np.arange(30 * rows.rows_per_epoch)).x_NT[:, 0].reshape(30, -1)
    assert len({int(windows.min()) for windows in firsts}) > 8
    assert len({tuple(windows.tolist()) for windows in firsts}) == 30
    assert not any((np.diff(windows) > 0).all() for windows in firsts)


@each_size
def test_a_row_is_the_same_whatever_it_is_fetched_with(
    n_tokens: int, context_length: int, batch_size: int
):
    """In batches of any size, across the ends of epochs, in any order of asking."""
    rows = Windows(np.arange(n_tokens), context_length, seed=2)
    n = 3 * rows.rows_per_epoch
    whole = rows.take(np.arange(n))
    for row in range(n - 1, -1, -1):
        alone = rows.take(np.array([row]))
        np.testing.assert_array_equal(alone.x_NT[0], whole.x_NT[row])
        np.testing.assert_array_equal(alone.y_NT[0], whole.y_NT[row])


def test_seeds_differ():
    orders = [Windows(np.arange(1000), 10, seed).take(np.arange(99)).x_NT for seed in range(5)]
    assert len({order.tobytes() for order in orders}) == 5


def test_the_order_is_fixed_for_good():
    """A run that is resumed elsewhere, or years later, meets the same batches."""
    rows = Windows(np.arange(100), 10, seed=0).take(np.arange(12))
    assert rows.x_NT[:, 0].tolist() == [11, 1, 60, 80, 21, 30, 50, 90, 40, 70, 87, 97]
    assert rows.y_NT[:, -1].tolist() == [21, 11, 70, 90, -100, 40, 60, 1, 50, 80, 97, 8]
