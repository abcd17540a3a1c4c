"""Whether a step fits into memory, and how many rows would: predicted, or after it failed."""

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np
import torch

from gptlab import machine
from gptlab.model.accounting import TRAINING_BYTES, build_on_meta
from gptlab.train.recipe import Recipe

if TYPE_CHECKING:
    from gptlab.model.memory import TrainingMemory

MANY_TENSORS = 1_000  # playing a step through takes seconds from here on
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


def rows_that_fit(recipe: Recipe, bf16: bool, memory: int) -> int:
    """Predict how many rows of a portion may be computed at once; 0 if not even one fits."""
    rows = range(1, recipe.micro_batch_size() + 1)
    return bisect_right(rows, memory, key=lambda n: predict(recipe, n, bf16).peak)


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return machine.total_memory()


def check_room(recipe: Recipe, precision: str) -> str | None:
    """Compare a step with the main memory; give a warning if it takes more than is free now.

    ValueError, which says how large it may be, if it takes more than there is. What is far below
    that is not looked at any closer.
    """
    total, free = machine.total_memory(), machine.available_memory()
    if ROUGHLY * _rough_bytes(recipe) < (free or total) or _is_large(recipe):
        return None
    rows, bf16 = recipe.micro_batch_size(), precision == "bf16"
    needed = predict(recipe, rows, bf16).peak
    if needed <= (free or total):
        return None
    is_there = "there are" if needed > total else "are free now"
    room = total if needed > total else free or total
    text = (
        f"a step with {rows} rows of {recipe.model.context_length} tokens at once takes about "
        f"{needed / 1e9:,.1f} GB, more than the {room / 1e9:,.1f} GB that {is_there}; "
        f"{remedy(recipe, rows_that_fit(recipe, bf16, room))}"
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
