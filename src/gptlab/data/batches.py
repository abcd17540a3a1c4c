"""The batch of a step, fetched while the step before it is computed."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from gptlab.data.batching import Batch, Rows


class Batches:
    """Batches of so many rows: those of a step are the next ones of `rows`, whatever came before.

    One batch is fetched ahead, in a thread, which changes when it is read and not what it is.
    """

    def __init__(self, rows: Rows, batch_size: int):
        self.rows, self.batch_size = rows, batch_size
        self._reader = ThreadPoolExecutor(1, "batches")  # one thread: rows remember their epoch
        self._ahead: tuple[int, Future[Batch]] | None = None

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = step, self._reader.submit(self._read, step)
        batch = self._ahead[1].result()
        self._ahead = step + 1, self._reader.submit(self._read, step + 1)
        return batch

    def _read(self, step: int) -> Batch:
        first = step * self.batch_size
        return self.rows.take(np.arange(first, first + self.batch_size))
