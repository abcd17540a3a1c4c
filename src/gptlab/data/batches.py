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


class Checked(Rows):
    """The rows of a text on disk, whose ids are looked at as they are read."""

    def __init__(self, rows: Rows, name: str, n_ids: int):
        self.rows, self.name, self.n_ids = rows, name, n_ids

    def take(self, rows: np.ndarray) -> Batch:
        batch = self.rows.take(rows)
        for ids_NT in (batch.x_NT, batch.y_NT):
            check_ids(ids_NT, self.name, self.n_ids)
        return batch


def check_ids(ids: np.ndarray, name: str, n_ids: int) -> None:
    """Raise ValueError for an id that there is not."""
    if ids.size and (highest := int(ids.max())) >= n_ids:
        raise ValueError(
            f"{name}: holds id {highest:,} of {n_ids:,}: damaged; see gptlab data verify"
        )
