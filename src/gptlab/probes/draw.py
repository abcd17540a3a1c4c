"""Random numbers of a task: functions of a seed and a name, the same with every version of numpy.

N rows.
"""

import numpy as np

from gptlab.streams import stream_seed


class Draw:
    """A stream of random numbers."""

    def __init__(self, seed: int, *names: object):
        self.bits = np.random.Philox(key=stream_seed(seed, "probe", *names))

    def integers(self, n: int, *shape: int) -> np.ndarray:
        """Draw from 0 to n - 1."""
        return (self._raw(*shape) % np.uint64(n)).astype(np.int64)

    def orders(self, N: int, n: int) -> np.ndarray:
        """Draw orders of 0 to n - 1, one a row."""
        return np.argsort(self._raw(N, n), axis=1, kind="stable")

    def uniform(self, *shape: int) -> np.ndarray:
        """Draw from 0 to 1."""
        return self._raw(*shape) / 2.0**64

    def _raw(self, *shape: int) -> np.ndarray:
        return self.bits.random_raw(int(np.prod(shape))).reshape(shape)
