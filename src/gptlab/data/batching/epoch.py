"""Epoch: every token is predicted once per epoch, in windows that are shuffled anew for each.

An epoch cuts the text, taken as a ring, into windows from a random phase on. The last window of the
ring ends with places that predict nothing, where the first one has begun. Documents follow one
another in a window.

N rows, T context length.
"""

import numpy as np

from gptlab.data.batching import IGNORED, Batch, Batching, Epochs, windows
from gptlab.data.shards import Tokens


class Epoch(Batching):
    """Has no settings."""

    def build(
        self, tokens: Tokens, starts: np.ndarray, context_length: int, seed: int
    ) -> "Windows":
        return Windows(tokens, context_length, seed)


class Windows(Epochs):
    def __init__(self, tokens: Tokens, context_length: int, seed: int):
        self.n_targets = len(tokens) - 1
        assert self.n_targets >= context_length, f"{len(tokens)} tokens for {context_length}"
        super().__init__(-(-self.n_targets // context_length), seed)
        self.tokens, self.context_length = tokens, context_length

    def begin(self, bits: np.random.Philox) -> None:
        self.phase = int(bits.random_raw()) % self.n_targets

    def gather(self, rows: np.ndarray) -> Batch:
        T, turns = self.context_length, rows * self.context_length  # from the phase on
        starts = (self.phase + turns) % self.n_targets
        batch = windows(self.tokens, np.minimum(starts, self.n_targets - T), T)
        for i in np.flatnonzero((starts > self.n_targets - T) | (turns > self.n_targets - T)):
            turn_T = turns[i] + np.arange(T)  # around the ring's seam, or beyond its end
            at_T = (self.phase + turn_T) % self.n_targets
            batch = batch.map(np.copy)
            batch.x_NT[i], batch.y_NT[i] = self.tokens[at_T], self.tokens[at_T + 1]
            batch.y_NT[i, turn_T >= self.n_targets] = IGNORED
        return batch
