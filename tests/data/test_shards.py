import numpy as np
import pytest

from gptlab.data.batching import Batching
from gptlab.data.batching.epoch import Epoch
from gptlab.data.batching.packed import Packed
from gptlab.data.batching.stream import Stream
from gptlab.data.shards import Shards, windows

WHOLE = np.random.default_rng(0).integers(0, 60_000, 1000).astype(np.uint16)
CUT = Shards([WHOLE[i : i + 64] for i in range(0, 1000, 64)])


def test_ids_are_those_of_the_whole():
    places = np.array([[0, 63, 64], [999, 500, 1]])
    np.testing.assert_array_equal(CUT[places], WHOLE[places])
    for start, stop in [(0, 1000), (60, 70), (64, 128), (990, 1000), (3, 3), (130, 700)]:
        np.testing.assert_array_equal(CUT[start:stop], WHOLE[start:stop])
    with pytest.raises(IndexError):
        CUT[np.array([1000])]


@pytest.mark.parametrize("width", [1, 10, 64, 65, 200])
def test_windows_are_those_of_the_whole_within_and_across_shards(width: int):
    starts = np.arange(1000 - width + 1)
    np.testing.assert_array_equal(windows(CUT, starts, width), windows(WHOLE, starts, width))
    np.testing.assert_array_equal(windows(WHOLE, starts, width)[:, -1], WHOLE[width - 1 :])


@pytest.mark.parametrize("way", [Epoch(), Stream(), Packed()], ids=lambda way: way.variant)
def test_every_batching_reads_shards_as_it_reads_the_whole(
    way: Batching, monkeypatch: pytest.MonkeyPatch
):
    starts = np.arange(0, 1000, 37)
    expected = way.build(WHOLE, starts, 16, seed=1).take(np.arange(100))
    found = way.build(CUT, starts, 16, seed=1).take(np.arange(100))
    np.testing.assert_array_equal(found.x_NT, expected.x_NT)
    np.testing.assert_array_equal(found.y_NT, expected.y_NT)
