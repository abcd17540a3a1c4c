import itertools
from pathlib import Path

import numpy as np
import pytest

from gptlab.data.batches import Batches

SIZES = [(1000, 10, 7), (999, 10, 99), (1009, 10, 250), (25, 10, 3), (11, 10, 4), (40, 1, 6)]
each_size = pytest.mark.parametrize(("n_tokens", "context_length", "batch_size"), SIZES)


def epochs(batches: Batches, n: int) -> list[np.ndarray]:
    """The first n epochs: where each window starts, of tokens that are their own places."""
    steps = -(-n * batches.windows_per_epoch // batches.batch_size)
    starts = np.concatenate([batches.at(step)[0][:, 0] for step in range(steps)])
    return list(starts[: n * batches.windows_per_epoch].reshape(n, -1))


@each_size
def test_a_batch_is_windows_and_the_tokens_that_follow(
    n_tokens: int, context_length: int, batch_size: int
):
    tokens = np.random.default_rng(0).integers(0, 60_000, n_tokens).astype(np.uint16)
    places = Batches(np.arange(n_tokens, dtype=np.uint32), context_length, batch_size, seed=5)
    batches = Batches(tokens, context_length, batch_size, seed=5)
    for step in range(20):
        x_BT, y_BT = batches.at(step)
        assert x_BT.shape == y_BT.shape == (batch_size, context_length)
        assert x_BT.dtype == y_BT.dtype == np.int64
        at_BT, next_BT = places.at(step)
        np.testing.assert_array_equal(at_BT, at_BT[:, :1] + np.arange(context_length))
        np.testing.assert_array_equal(next_BT, at_BT + 1)
        np.testing.assert_array_equal(x_BT, tokens[at_BT])
        np.testing.assert_array_equal(y_BT, tokens[at_BT + 1])


@each_size
def test_an_epoch_has_every_window_once(n_tokens: int, context_length: int, batch_size: int):
    batches = Batches(np.arange(n_tokens), context_length, batch_size, seed=1)
    for starts in epochs(batches, 5):
        ordered = np.sort(starts)
        phase = ordered[0]
        np.testing.assert_array_equal(ordered, phase + context_length * np.arange(len(ordered)))
        assert n_tokens - context_length * len(ordered) < 2 * context_length
        assert ordered[-1] + context_length < n_tokens  # the last token is predicted only


def test_epochs_differ_in_phase_and_order():
    starts = epochs(Batches(np.arange(1000), 10, 7, seed=1), 30)
    assert {int(windows.min()) for windows in starts} == set(range(10))
    orders = {tuple((windows // 10).tolist()) for windows in starts}
    assert len(orders) == 30
    assert not any((np.diff(windows) > 0).all() for windows in starts)


def test_every_token_is_read_and_predicted_in_some_epoch():
    batches = Batches(np.arange(45), 10, 4, seed=0)
    steps = [batches.at(step) for step in range(200)]
    assert set(np.concatenate([x for x, _ in steps]).ravel().tolist()) == set(range(44))
    assert set(np.concatenate([y for _, y in steps]).ravel().tolist()) == set(range(1, 45))


@each_size
def test_epochs_follow_without_a_seam(n_tokens: int, context_length: int, batch_size: int):
    """Any batch size gives the same windows in the same order."""
    tokens = np.arange(n_tokens)
    one = Batches(tokens, context_length, 1, seed=3)
    many = Batches(tokens, context_length, batch_size, seed=3)
    for step in range(12):
        x_BT, _ = many.at(step)
        first = step * batch_size
        singles = [one.at(i)[0] for i in range(first, first + batch_size)]
        np.testing.assert_array_equal(x_BT, np.concatenate(singles))


def test_a_batch_can_hold_two_epochs():
    batches = Batches(np.arange(1000), 10, 64, seed=0)  # 99 windows: epoch 1 starts in batch 1
    assert batches.windows_per_epoch == 99
    second = batches.at(1)[0][:, 0]
    phases = second % 10
    assert len(set(phases[:35].tolist())) == len(set(phases[35:].tolist())) == 1
    assert phases[0] != phases[-1]


def test_a_batch_is_a_function_of_seed_and_step():
    tokens = np.random.default_rng(0).integers(0, 100, 500)
    forward = [batches_at(tokens, 2, step) for step in range(40)]
    batches = Batches(tokens, 16, 5, seed=2)
    np.random.seed(0)
    for step in [39, 0, 17, 3, 38, 17, *range(40)]:
        for given, expected in zip(batches.at(step), forward[step], strict=True):
            np.testing.assert_array_equal(given, expected)


def batches_at(tokens: np.ndarray, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    return Batches(tokens, 16, 5, seed).at(step)


def test_seeds_differ():
    tokens = np.arange(5000)
    for a, b in itertools.combinations(range(5), 2):
        assert not np.array_equal(batches_at(tokens, a, 0)[0], batches_at(tokens, b, 0)[0])


def test_a_memory_map_gives_the_same(tmp_path: Path):
    tokens = np.random.default_rng(0).integers(0, 2**16, 2000).astype(np.uint16)
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, "w+", shape=(2000,))
    mapped[:] = tokens
    for step in (0, 30):
        for given, expected in zip(
            batches_at(mapped, 0, step), batches_at(tokens, 0, step), strict=True
        ):
            assert type(given) is np.ndarray
            np.testing.assert_array_equal(given, expected)


def test_batches_are_known():
    """A change here changes what every recipe trains on, at every seed."""
    batches = Batches(np.arange(100), 10, 12, seed=0)
    assert batches.at(0)[0][:, 0].tolist() == [80, 70, 30, 50, 0, 20, 60, 10, 40, 11, 21, 31]
