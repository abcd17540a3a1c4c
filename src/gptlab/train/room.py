"""Whether a step fits into memory, and how many rows would: predicted, or after it failed."""

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from gptlab import machine
from gptlab.kernels.causal import rows_counted
from gptlab.model.accounting import TRAINING_BYTES, build_on_meta, check_fits
from gptlab.train.recipe import Recipe
from gptlab.train.session import Say

if TYPE_CHECKING:
    from gptlab.model.memory import TrainingMemory

MANY_TENSORS = 1_000  # playing a step through takes seconds from here on
PLAYED_TOKENS = 16_384  # that are played through at once, at most
ROUGHLY = 4  # how far the rough estimate may be off


def predict(recipe: Recipe, rows: int, bf16: bool) -> "TrainingMemory":
    """Play a recipe's step through, with so many rows at once; see `model/memory.py`."""
    from gptlab.model.memory import training_memory  # slow to import

    return training_memory(
        recipe.model,
        rows,
        recipe.optimizer.build,
        accumulate=recipe.batch_size() > rows,
        bf16=bf16,
        documents=recipe.batching.positions(np.zeros((1, 1), np.int64)) is not None,
    )


class Line(NamedTuple):
    """Memory by rows, in bytes: `peak` with so many `rows`, and so much for each further one."""

    rows: int
    peak: int
    of_a_row: float

    def peak_of(self, rows: int) -> int:
        return self.peak + round((rows - self.rows) * self.of_a_row)

    def rows_in(self, memory: int) -> int:
        """How many rows fit; none where rows are not what takes the memory."""
        return self.rows + math.floor((memory - self.peak) / max(1, self.of_a_row))


class Peaks:
    """The memory that steps of a recipe take at most, by the rows that are computed at once.

    Many rows are not played through, which takes as long as they are many: further ones take what
    the last ones would, if as much of each were kept for the gradient.
    """

    def __init__(self, recipe: Recipe, bf16: bool):
        self.recipe, self.bf16 = recipe, bf16
        self.played = max(2, PLAYED_TOKENS // recipe.model.context_length)
        self.known: dict[tuple[int, float], int] = {}  # by rows, and how many times they count

    def __getitem__(self, rows: int) -> int:
        return self.line(rows).peak_of(rows) if rows > self.played else self._play(rows, 1)

    def line(self, rows: int) -> Line:
        """Play two numbers of rows as if there were more, and so many of them kept as little."""
        half = self.played // 2
        most, less = (self._play(n, rows / n) for n in (self.played, half))
        return Line(self.played, most, (most - less) / (self.played - half))

    def _play(self, rows: int, times: float) -> int:
        if (rows, times) not in self.known:
            with rows_counted(times):
                self.known[rows, times] = predict(self.recipe, rows, self.bf16).peak
        return self.known[rows, times]


def rows_that_fit(recipe: Recipe, bf16: bool, memory: int, peaks: Peaks | None = None) -> int:
    """Predict how many rows of a portion may be computed at once; 0 if not even one fits."""
    peaks = peaks or Peaks(recipe, bf16)
    rows = recipe.micro_batch_size()
    while rows > peaks.played:
        if peaks[rows] <= memory:
            return rows
        rows = min(rows - 1, peaks.line(rows).rows_in(memory))
    return bisect_right(range(1, rows + 1), memory, key=peaks.__getitem__)


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return machine.total_memory()


def check_memory(recipe: Recipe, device: torch.device, precision: str, say: Say) -> None:
    """Refuse, with a ValueError, what does not fit into the memory there is; warn of what may not.

    Of a GPU only what is there without any step: weights, gradients and optimizer.
    """
    check_fits(recipe.model, memory_of(device))
    if device.type != "cpu":
        return
    if recipe.model.context_length > PLAYED_TOKENS:
        say("finding what a step takes of memory, which takes a while for so long a context")
    if warning := check_room(recipe, precision):
        say(warning)


def check_room(recipe: Recipe, precision: str) -> str | None:
    """Compare a step with the main memory; give a warning if it takes more than is free now.

    ValueError, which says how large it may be, if it takes more than there is. What is far below
    that is not looked at any closer.
    """
    total, free = machine.total_memory(), machine.available_memory()
    if ROUGHLY * _rough_bytes(recipe) < (free or total) or _is_large(recipe):
        return None
    rows, bf16 = recipe.micro_batch_size(), precision == "bf16"
    peaks = Peaks(recipe, bf16)
    needed = peaks[rows]
    if needed <= (free or total):
        return None
    is_there = "there are" if needed > total else "are free now"
    room = total if needed > total else free or total
    text = (
        f"a step with {rows} rows of {recipe.model.context_length} tokens at once takes about "
        f"{needed / 1e9:,.1f} GB, more than the {room / 1e9:,.1f} GB that {is_there}; "
        f"{remedy(recipe, rows_that_fit(recipe, bf16, room, peaks))}"
    )
    if needed > total:
        raise ValueError(text)
    return text


def remedy(recipe: Recipe, most: int) -> str:
    """Say how large a portion may be, of which at most so many rows fit."""
    T = recipe.model.context_length
    if most == 0:
        return f"not even one row fits: try a smaller model.context_length={T} or model.d_model"
    return f"at most {most} fit: try train.micro_batch_tokens={most * T}"


def _rough_bytes(recipe: Recipe) -> int:
    model = recipe.model
    T, tokens = model.context_length, recipe.micro_batch_size() * model.context_length
    n_parameters = sum(p.numel() for p in build_on_meta(model).parameters())
    of_token = model.n_layers * (200 * model.d_model + 4 * T) + 16 * (model.vocab_size or 0)
    return TRAINING_BYTES * n_parameters + tokens * of_token


def _is_large(recipe: Recipe) -> bool:
    return sum(1 for _ in build_on_meta(recipe.model).parameters()) > MANY_TENSORS
