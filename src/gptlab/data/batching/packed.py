"""Packed: rows of whole documents, each of which sees nothing but itself.

Documents are packed by best fit, longest first, which leaves few places empty (arXiv:2404.10830).
One that is longer than a row is cut into pieces of a row. A document is read from the end of the
one before it on, which tells that a new one begins, so that every token is predicted once per
epoch. Which documents share a row, and the order of the rows, are others in every epoch.

Best fit works on the number of pieces of each length, not on the pieces: its time does not grow
with the text.

N rows, T context length.
"""

from bisect import bisect_left, insort
from collections import defaultdict

import numpy as np

from gptlab.data.batching import IGNORED, Batch, Batching, Epochs
from gptlab.data.shards import Tokens

NO_DOCUMENT = -1


class Packed(Batching):
    """`reset_positions`: whether each document counts from 0; if not, a row counts through."""

    reset_positions: bool = True

    def build(
        self, tokens: Tokens, starts: np.ndarray, context_length: int, seed: int
    ) -> "PackedRows":
        return PackedRows(tokens, starts, context_length, seed, self.reset_positions)

    def positions(self, documents_NT: np.ndarray) -> np.ndarray | None:
        index_NT = np.broadcast_to(np.arange(documents_NT.shape[1]), documents_NT.shape)
        if not self.reset_positions:
            return index_NT.copy()
        begins_NT = np.diff(documents_NT, axis=1, prepend=documents_NT[:, :1]) != 0
        return index_NT - np.maximum.accumulate(np.where(begins_NT, index_NT, 0), axis=1)


class PackedRows(Epochs):
    def __init__(
        self,
        tokens: Tokens,
        starts: np.ndarray,
        context_length: int,
        seed: int,
        reset_positions: bool,
    ):
        self.tokens, self.context_length = tokens, context_length
        self.reset_positions = reset_positions
        self.first, self.length = cut(starts, len(tokens), context_length)
        self.pattern = best_fit(np.bincount(self.length, minlength=context_length + 1))
        super().__init__(sum(times for _, times in self.pattern), seed)

    def begin(self, bits: np.random.Philox) -> None:
        """Deal the pieces of each length out to the places for them."""
        shuffled = np.argsort(bits.random_raw(len(self.length)), kind="stable")
        by_length = shuffled[np.argsort(self.length[shuffled], kind="stable")]
        counts = np.bincount(self.length, minlength=self.context_length + 1)
        next_of = np.concatenate([[0], np.cumsum(counts)[:-1]])
        pieces, rows, row = [], [], 0
        for lengths, times in self.pattern:
            for length in lengths:
                pieces.append(by_length[next_of[length] : next_of[length] + times])
                rows.append(np.arange(row, row + times))
                next_of[length] += times
            row += times
        row_of = np.concatenate(rows)
        order = np.argsort(row_of, kind="stable")
        self.pieces = np.concatenate(pieces)[order]
        self.first_piece = np.searchsorted(row_of[order], np.arange(row + 1))

    def gather(self, rows: np.ndarray) -> Batch:
        n_pieces = self.first_piece[rows + 1] - self.first_piece[rows]
        ordinal = _count_up(n_pieces)  # of a piece in its row
        pieces = self.pieces[np.repeat(self.first_piece[rows], n_pieces) + ordinal]
        length = self.length[pieces]
        row = np.repeat(np.arange(len(rows)), n_pieces)
        before = np.cumsum(length) - length  # tokens before a piece, all rows in one line
        start_of_row = np.repeat(before[np.cumsum(n_pieces) - n_pieces], n_pieces)
        place = row * self.context_length + before - start_of_row
        inside = _count_up(length)  # of a token in its piece
        at = np.repeat(place, length) + inside
        target = np.repeat(self.first[pieces], length) + inside
        shape = (len(rows), self.context_length)

        def spread(values: np.ndarray, fill: int) -> np.ndarray:
            flat = np.full(shape[0] * shape[1], fill, np.int64)
            flat[at] = values
            return flat.reshape(shape)

        positions_NT = np.tile(np.arange(self.context_length), (len(rows), 1))
        if self.reset_positions:
            positions_NT = spread(inside, 0)
        return Batch(
            spread(self.tokens[target - 1], 0),
            spread(self.tokens[target], IGNORED),
            spread(np.repeat(ordinal, length), NO_DOCUMENT),
            positions_NT,
        )


def cut(starts: np.ndarray, n_tokens: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut documents into pieces: the place of the first token that each predicts, and how many."""
    ends = np.append(starts[1:], n_tokens).astype(np.int64)
    begins = np.maximum(starts.astype(np.int64), 1)  # nothing predicts the very first token
    n_pieces = -(-(ends - begins) // longest)
    ordinal = _count_up(n_pieces)
    first = np.repeat(begins, n_pieces) + ordinal * longest
    return first, np.minimum(longest, np.repeat(ends, n_pieces) - first)


def best_fit(counts: np.ndarray) -> list[tuple[list[int], int]]:
    """Pack `counts[n]` pieces of every length n, longest first, each where least room stays.

    Gives the lengths in a row, and how many rows are like that. A row has len(counts) - 1 places.
    """
    T = len(counts) - 1
    rooms: list[int] = []  # the sizes of room that some row has left, ascending
    rows_with: dict[int, list[tuple[list[int], int]]] = defaultdict(list)

    def put(lengths: list[int], times: int) -> None:
        room = T - sum(lengths)
        if room not in rooms:
            insort(rooms, room)
        rows_with[room].append((lengths, times))

    for length in range(T, 0, -1):
        left = int(counts[length])
        while left:
            found = bisect_left(rooms, length)
            if found == len(rooms):
                fit = min(T // length, left)
                times = left // fit
                put([length] * fit, times)
                left -= fit * times
                continue
            room = rooms[found]
            lengths, times = rows_with[room].pop()
            if not rows_with[room]:
                rooms.remove(room)
            filled = min(times, left)
            put([*lengths, length], filled)
            if times > filled:
                put(lengths, times - filled)
            left -= filled
    return [row for room in sorted(rows_with) for row in rows_with[room]]


def _count_up(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... to each length, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
