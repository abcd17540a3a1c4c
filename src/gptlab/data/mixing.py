"""Rows of several texts in fixed proportions.

Every stretch of 1,000 rows has each text's share of them, in an order of its own, so that the
proportions hold from the start and a row's text and its number in that text are functions of its
number.

N rows.
"""

from collections.abc import Sequence

import numpy as np

from gptlab.data.batching import Batch, Rows, stack
from gptlab.streams import stream_seed

PERIOD = 1000


class MixedRows(Rows):
    """`shares`: how many of each thousand rows are each text's."""

    def __init__(self, texts: Sequence[Rows], shares: Sequence[int], seed: int):
        assert sum(shares) == PERIOD
        self.texts, self.shares, self.seed = texts, np.array(shares), seed
        self._period = -1

    def take(self, rows: np.ndarray) -> Batch:
        text_N, number_N = np.array([self.place(int(row)) for row in rows]).T
        found = [
            (np.flatnonzero(text_N == i), text.take(number_N[text_N == i]))
            for i, text in enumerate(self.texts)
            if (text_N == i).any()
        ]
        back_N = np.concatenate([places for places, _ in found]).argsort()
        return stack([batch for _, batch in found]).map(lambda array: array[back_N])

    def place(self, row: int) -> tuple[int, int]:
        """Tell which text a row is of, and its number in it."""
        period, place = divmod(row, PERIOD)
        if period != self._period:
            bits = np.random.Philox(key=stream_seed(self.seed, "mixture", period))
            order = np.argsort(bits.random_raw(PERIOD), kind="stable")
            self._text = np.repeat(np.arange(len(self.shares)), self.shares)[order]
            self._period = period
        text = int(self._text[place])
        before = np.count_nonzero(self._text[:place] == text)
        return text, int(period * self.shares[text] + before)


def mixed(texts: Sequence[Rows], weights: Sequence[float], seed: int) -> Rows:
    """Mix the rows of texts by their weights; those of a single one are left as they are."""
    return texts[0] if len(texts) == 1 else MixedRows(texts, shares_of(weights), seed)


def shares_of(weights: Sequence[float]) -> list[int]:
    """Turn weights into rows of each thousand, by largest remainders."""
    exact = np.array(weights) / sum(weights) * PERIOD
    shares = np.floor(exact).astype(int)
    for i in np.argsort(shares - exact, kind="stable")[: PERIOD - shares.sum()]:
        shares[i] += 1
    return shares.tolist()
