import numpy as np

from gptlab.data.batching.stream import BLOCK, RandomWindows

T = 10


def test_a_row_is_a_window_and_the_tokens_that_follow():
    tokens = np.random.default_rng(0).integers(0, 60_000, 300).astype(np.uint16)
    at = RandomWindows(np.arange(300), T, seed=4).take(np.arange(500))
    batch = RandomWindows(tokens, T, seed=4).take(np.arange(500))
    np.testing.assert_array_equal(at.x_NT, at.x_NT[:, :1] + np.arange(T))
    np.testing.assert_array_equal(at.y_NT, at.x_NT + 1)
    np.testing.assert_array_equal(batch.x_NT, tokens[at.x_NT])
    np.testing.assert_array_equal(batch.y_NT, tokens[at.y_NT])


def test_windows_start_anywhere_and_evenly():
    rows = RandomWindows(np.arange(30), T, seed=0).take(np.arange(20_000))
    counts = np.bincount(rows.x_NT[:, 0], minlength=20)
    assert len(counts) == 20
    assert counts.min() > 850
    assert counts.max() < 1150


def test_a_row_is_the_same_whatever_it_is_fetched_with():
    rows = RandomWindows(np.arange(1000), T, seed=1)
    numbers = np.arange(BLOCK - 3, BLOCK + 3)
    whole = rows.take(numbers).x_NT
    for row in (5, 0, 3, 2):
        np.testing.assert_array_equal(rows.take(numbers[row : row + 1]).x_NT[0], whole[row])
    other = RandomWindows(np.arange(1000), T, seed=2).take(numbers).x_NT
    assert not np.array_equal(whole, other)
