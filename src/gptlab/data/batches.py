"""Batches: every window of the text once per epoch, in an order that is a function of the seed.

An epoch cuts the text into windows, from a random phase on, and shuffles them. Epochs follow one
another without a seam: a batch may hold the end of one and the start of the next. Nothing is
remembered between batches, so a resumed run needs no state: step s has the same batch always.

Random bits come from Philox itself, whose stream numpy promises to keep from version to version
(numpy's own shuffles it does not).

B batch, T context length.
"""

import numpy as np

from gptlab.streams import stream_seed


class Batches:
    """Windows of `tokens`, a 1-D array of ids, perhaps a memory map.

    The number of windows is the same in each epoch. The T to 2T tokens at the two ends that an
    epoch leaves out are others in another epoch: the phase is anything that leaves room.
    """

    def __init__(self, tokens: np.ndarray, context_length: int, batch_size: int, seed: int):
        n_tokens = len(tokens)
        assert n_tokens > context_length, f"{n_tokens} tokens for windows of {context_length}"
        self.tokens = tokens
        self.context_length, self.batch_size, self.seed = context_length, batch_size, seed
        self.windows_per_epoch = max(1, n_tokens // context_length - 1)
        self._n_phases = n_tokens - self.windows_per_epoch * context_length
        self._offsets = np.arange(context_length)
        self._epoch, self._starts = -1, np.array([], np.int64)

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, counted from 0: x_BT and the tokens that follow, y_BT, as int64."""
        starts: list[np.ndarray] = []
        window, end = step * self.batch_size, (step + 1) * self.batch_size
        while window < end:
            epoch, first = divmod(window, self.windows_per_epoch)
            starts.append(self._starts_of(epoch)[first : first + end - window])
            window += len(starts[-1])
        at_BT = np.concatenate(starts)[:, None] + self._offsets
        return self.tokens[at_BT].astype(np.int64), self.tokens[at_BT + 1].astype(np.int64)

    def _starts_of(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch start, in its order. The last epoch asked for is kept."""
        if epoch != self._epoch:
            bits = np.random.Philox(key=stream_seed(self.seed, "data", epoch))
            phase = int(bits.random_raw()) % self._n_phases
            order = np.argsort(bits.random_raw(self.windows_per_epoch), kind="stable")
            self._epoch, self._starts = epoch, phase + order * self.context_length
        return self._starts
