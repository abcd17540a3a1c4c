"""Several arrays of ids as one, without a copy of them."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


class Shards:
    """What batches and validation need of an array: its length, a slice, ids at any places.

    All arrays but the last have the same length.
    """

    ndim = 1

    def __init__(self, arrays: Sequence[np.ndarray]):
        assert len({len(array) for array in arrays[:-1]}) <= 1
        assert len(arrays[-1]) <= len(arrays[0])
        self.arrays, self.each = arrays, len(arrays[0])
        self.dtype = arrays[0].dtype
        self.shape = (sum(map(len, arrays)),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: "slice | np.ndarray") -> np.ndarray:
        if isinstance(place, slice):
            return self._slice(*place.indices(len(self)))
        place = np.asarray(place)
        if place.size and (place.min() < 0 or place.max() >= len(self)):
            raise IndexError(f"places {place.min()} to {place.max()} of {len(self)} tokens")
        shard = place // self.each
        found = np.empty(place.shape, self.dtype)
        for number in np.unique(shard):
            here = shard == number
            found[here] = self.arrays[number][place[here] - number * self.each]
        return found

    def windows(self, starts: np.ndarray, width: int) -> np.ndarray:
        """Gather stretches of so many ids, as one row each."""
        found = np.empty((len(starts), width), self.dtype)
        shard = starts // self.each
        crosses = (starts + width - 1) // self.each != shard
        found[crosses] = self[starts[crosses, None] + np.arange(width)]
        for number in np.unique(shard[~crosses]):
            here = (shard == number) & ~crosses
            found[here] = windows(self.arrays[number], starts[here] - number * self.each, width)
        return found

    def _slice(self, start: int, stop: int, step: int) -> np.ndarray:
        assert step == 1
        first, last = start // self.each, max(start, stop - 1) // self.each
        parts = [
            self.arrays[number][max(0, start - number * self.each) : stop - number * self.each]
            for number in range(first, min(last + 1, len(self.arrays)))
            if stop > number * self.each
        ]
        return np.concatenate([np.empty(0, self.dtype), *parts])


Tokens = np.ndarray | Shards


def windows(tokens: Tokens, starts: np.ndarray, width: int) -> np.ndarray:
    """Gather stretches of so many ids, as one row each; rows are copied whole, not id by id."""
    if isinstance(tokens, Shards):
        return tokens.windows(starts, width)
    return sliding_window_view(np.asarray(tokens), width)[starts]
