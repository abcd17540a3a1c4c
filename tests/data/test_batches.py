import threading
from pathlib import Path

import numpy as np
import pytest

from gptlab.data.batches import Batches
from gptlab.data.batching import Batch, Rows
from gptlab.data.batching.epoch import Windows


def starts(batch: Batch) -> list[int]:
    return batch.x_NT[:, 0].tolist()


def test_a_batch_is_a_function_of_its_step():
    """Asked for in any order, with or without the one before."""
    rows = Windows(np.arange(500), 16, seed=2)
    forward = [starts(rows.take(np.arange(5 * step, 5 * step + 5))) for step in range(40)]
    batches = Batches(Windows(np.arange(500), 16, seed=2), 5)
    for step in [39, 0, 17, 3, 38, 17, *range(40)]:
        assert starts(batches.at(step)) == forward[step]


def test_a_memory_map_gives_the_same(tmp_path: Path):
    tokens = np.random.default_rng(0).integers(0, 2**16, 2000).astype(np.uint16)
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, "w+", shape=(2000,))
    mapped[:] = tokens
    for step in (0, 30):
        given = Batches(Windows(mapped, 16, 0), 5).at(step)
        assert type(given.x_NT) is np.ndarray
        np.testing.assert_array_equal(given.x_NT, Batches(Windows(tokens, 16, 0), 5).at(step).x_NT)


class Watched(Rows):
    def __init__(self):
        self.asked: list[int] = []
        self.came = threading.Event()

    def take(self, rows: np.ndarray) -> Batch:
        self.asked += rows.tolist()
        if rows[0] == 2:
            self.came.set()
        return Batch(rows, rows)


def test_the_next_batch_is_fetched_ahead():
    rows = Watched()
    batches = Batches(rows, 1)
    assert batches.at(0).x_NT.tolist() == [0]
    assert batches.at(1).x_NT.tolist() == [1]
    assert rows.came.wait(10)
    assert rows.asked == [0, 1, 2]


def test_what_goes_wrong_in_the_thread_is_heard():
    class Broken(Rows):
        def take(self, rows: np.ndarray) -> Batch:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        Batches(Broken(), 1).at(0)
