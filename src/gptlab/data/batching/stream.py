"""Stream: windows from anywhere in the text, drawn one by one, as nanoGPT does.

In a text of n windows a token is met n times in n draws on average, and a third of them not at all.

N rows, T context length.
"""

import numpy as np

from gptlab.data.batching import Batch, Batching, Rows, windows
from gptlab.data.shards import Tokens
from gptlab.streams import stream_seed

BLOCK = 4096  # rows whose random numbers are drawn together


class Stream(Batching):
    """Has no settings."""

    def build(
        self, tokens: Tokens, starts: np.ndarray, context_length: int, seed: int
    ) -> "RandomWindows":
        return RandomWindows(tokens, context_length, seed)


class RandomWindows(Rows):
    def __init__(self, tokens: Tokens, context_length: int, seed: int):
        self.n_starts = len(tokens) - context_length
        assert self.n_starts > 0, f"{len(tokens)} tokens for windows of {context_length}"
        self.tokens, self.context_length, self.seed = tokens, context_length, seed
        self._block = -1

    def take(self, rows: np.ndarray) -> Batch:
        starts = np.array([self.start_of(int(row)) for row in rows])
        return windows(self.tokens, starts, self.context_length)

    def start_of(self, row: int) -> int:
        """Where the window of a row starts."""
        block, place = divmod(row, BLOCK)
        if block != self._block:
            bits = np.random.Philox(key=stream_seed(self.seed, "data", block))
            self._block, self._starts = block, bits.random_raw(BLOCK) % np.uint64(self.n_starts)
        return int(self._starts[place])
