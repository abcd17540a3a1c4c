"""A session that reads no text and writes nothing: a recipe's own step on random tokens."""

from typing import Any

import numpy as np
import torch

from gptlab import machine
from gptlab.data.batches import Batches
from gptlab.data.batching import Rows
from gptlab.train.device import set_up
from gptlab.train.kernels import choose_kernels, use_kernels
from gptlab.train.precision import choose_precision
from gptlab.train.recipe import Recipe
from gptlab.train.room import check_memory
from gptlab.train.session import Say, Session

ROWS = 64  # of text, which is then read over and over


def rehearse(recipe: Recipe, say: Say) -> Session:
    """Assemble what steps are made of, as for a new run, with batches of a single portion.

    Random documents are half as long as the context, for batchings that care.
    """
    recipe = single_portion(recipe.resolved())
    device = torch.device(machine.choose_device(recipe.train.device, "train.device"))
    set_up(device)
    precision = choose_precision(recipe.train.precision, device, say)
    check_memory(recipe, device, precision, say)
    model = recipe.build().to(device)
    use_kernels(model, choose_kernels(recipe.train.kernels, device))
    batches = Batches(random_rows(recipe), recipe.batch_size())
    nothing: Any = None  # neither a folder nor a text: steps know of neither
    return Session(
        recipe, nothing, model, nothing, nothing, batches, recipe.optimizer.build(model), precision
    )


def single_portion(recipe: Recipe) -> Recipe:
    """Shorten the batch to the rows that are computed at once."""
    tokens = recipe.micro_batch_size() * recipe.model.context_length
    return recipe.but(train=recipe.train.but(batch_tokens=tokens))


def random_rows(recipe: Recipe) -> Rows:
    """Lay out a text of random tokens as the recipe does."""
    T, V = recipe.model.context_length, recipe.model.vocab_size
    tokens = np.random.default_rng(0).integers(V or 1, size=ROWS * T + 1, dtype=np.uint32)
    starts = np.arange(0, len(tokens), max(1, T // 2))
    return recipe.batching.build(tokens, starts, T, recipe.seed)
