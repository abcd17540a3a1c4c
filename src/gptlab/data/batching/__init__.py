"""Batching: which tokens stand in which row of which batch.

Contract: `build(tokens, starts, context_length, seed)` gives `Rows`, an endless sequence of rows
that is a function of the text and the seed. Batch s of B rows is the rows s * B to (s + 1) * B - 1:
nothing is remembered between batches, so the sequence depends on no number of processes or portions
and a resumed run needs no state.

Random bits come from Philox itself, whose stream numpy promises to keep from version to version
(numpy's own shuffles it does not).

N rows, T context length.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gptlab.config import Part
from gptlab.data import shards
from gptlab.data.shards import Tokens
from gptlab.streams import stream_seed

IGNORED = -100  # the target of a place that predicts nothing


@dataclass(frozen=True)
class Batch:
    """Rows of inputs and of the tokens that follow them, as int64; -100 where none is to be learnt.

    documents_NT, positions_NT: of packed rows; None where every row is one text from its start.
    """

    x_NT: np.ndarray
    y_NT: np.ndarray
    documents_NT: np.ndarray | None = None
    positions_NT: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Batch":
        """Some of the rows."""
        return self.map(lambda array: array[rows])

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> "Batch":
        """Change all arrays alike."""
        extra = (self.documents_NT, self.positions_NT)
        changed = (None if array is None else change(array) for array in extra)
        return Batch(change(self.x_NT), change(self.y_NT), *changed)


class Rows(ABC):
    """An endless sequence of rows of one length, in which every token has its turn."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Batch:
        """Gather rows by their numbers, counted from 0, which ascend."""


class Batching(Part):
    """The slot `batching`."""

    @abstractmethod
    def build(self, tokens: Tokens, starts: np.ndarray, context_length: int, seed: int) -> Rows:
        """Lay out a text: 1-D ids, perhaps a memory map, and where each document starts in it."""

    def positions(self, documents_NT: np.ndarray) -> np.ndarray | None:
        """Give positions_NT in rows of documents that do not see each other; None if they do."""
        return None


def windows(tokens: Tokens, starts: np.ndarray, T: int) -> Batch:
    """Gather windows of T tokens and of those that follow, from a text or a memory map of it."""
    both = shards.windows(tokens, starts, T + 1).astype(np.int64)
    return Batch(both[:, :-1], both[:, 1:])


class Epochs(Rows):
    """Rows in epochs of the same number of them, each in an order of its own."""

    def __init__(self, rows_per_epoch: int, seed: int):
        self.rows_per_epoch, self.seed = rows_per_epoch, seed
        self._epoch = -1

    def take(self, rows: np.ndarray) -> Batch:
        epochs, places = np.divmod(rows, self.rows_per_epoch)
        parts = []
        for epoch in np.unique(epochs):
            if epoch != self._epoch:
                bits = np.random.Philox(key=stream_seed(self.seed, "data", int(epoch)))
                self.begin(bits)
                self._order = _shuffled(bits, self.rows_per_epoch)
                self._epoch = epoch
            parts.append(self.gather(self._order[places[epochs == epoch]]))
        return parts[0] if len(parts) == 1 else stack(parts)

    @abstractmethod
    def begin(self, bits: np.random.Philox) -> None:
        """Lay out an epoch."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> Batch:
        """Gather rows of the epoch, by their number in it."""


def _shuffled(bits: np.random.Philox, n: int) -> np.ndarray:
    return np.argsort(bits.random_raw(n), kind="stable")


def stack(parts: list[Batch]) -> Batch:
    """Put the rows of batches below one another."""

    def join(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    x_NT, y_NT = join("x_NT"), join("y_NT")
    assert x_NT is not None
    assert y_NT is not None
    return Batch(x_NT, y_NT, join("documents_NT"), join("positions_NT"))
