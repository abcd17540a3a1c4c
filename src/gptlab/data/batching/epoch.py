"""Epoch: every token is predicted once per epoch, in windows that are shuffled anew for each.

An epoch cuts the text, taken as a ring, into windows from a random phase on. The last window of the
ring ends with places that predict nothing, where the first one has begun. Documents follow one
another in a window.

N rows, T context length.
"""

import numpy as np

from gptlab.data.batching import IGNORED, Batch, Batching, Epochs


class Epoch(Batching):
    """Has no settings."""

    def build(
        self, tokens: np.ndarray, starts: np.ndarray, context_length: int, seed: int
    ) -> "Windows":
        return Windows(tokens, context_length, seed)


class Windows(Epochs):
    def __init__(self, tokens: np.ndarray, context_length: int, seed: int):
        self.n_targets = len(tokens) - 1
        assert self.n_targets >= context_length, f"{len(tokens)} tokens for {context_length}"
        super().__init__(-(-self.n_targets // context_length), seed)
        self.tokens, self.context_length = tokens, context_length
        self.offset_T = np.arange(context_length)

    def begin(self, bits: np.random.Philox) -> None:
        self.phase = int(bits.random_raw()) % self.n_targets

    def gather(self, rows: np.ndarray) -> Batch:
        turn_NT = rows[:, None] * self.context_length + self.offset_T  # of the ring, from its phase
        at_NT = (self.phase + turn_NT) % self.n_targets
        y_NT = self.tokens[at_NT + 1].astype(np.int64)
        y_NT[turn_NT >= self.n_targets] = IGNORED
        return Batch(self.tokens[at_NT].astype(np.int64), y_NT)
