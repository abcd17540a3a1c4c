"""What can be asked of a trained run without any training, on its own validation text.

T the model's context, B rows, L length of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from gptlab.generate import LanguageModel, load
from gptlab.model.gpt import GPT
from gptlab.parts.layers import Embedding
from gptlab.train.recipe import Recipe

TOKENS_AT_ONCE = 8192
Hear = Callable[[int, int], None]


@dataclass(frozen=True)
class Text:
    """A trained model and the tokens it was validated on."""

    model: LanguageModel
    tokens: np.ndarray

    @property
    def T(self) -> int:
        """The context that the model was trained with."""
        return self.model.model.context_length


@dataclass(frozen=True)
class Finding:
    """A number with its standard error, in a condition. `why_not`: why there is none."""

    condition: str
    value: float | None
    error: float | None = None
    chance: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Findings:
    """What was found of a run. `measure`: of what; `curve`: by position, for a picture."""

    task: str
    measure: str
    findings: list[Finding]
    curve: list[tuple[int, float]] = field(default_factory=list)


def open_text(folder: str) -> Text:
    """Open a run and read its validation text again. Raises ValueError as `load` does."""
    model = load(folder, device="cpu")
    recipe = Recipe.parse(model.config)
    return Text(model, np.asarray(recipe.data.tokenize(model.tokenizer).val).astype(np.int64))


def known_positions(gpt: GPT) -> int | None:
    """How many positions a model has vectors for; None: any."""
    tables = [
        module.num_embeddings
        for module in gpt.modules()
        if isinstance(module, Embedding) and module.role == "position"
    ]
    return min(tables, default=None)


@torch.inference_mode()
def losses_of(gpt: GPT, rows_BL: np.ndarray, hear: Hear = lambda done, all: None) -> np.ndarray:
    """Compute the loss of every token but the first of each row, in nats."""
    at_once = max(1, TOKENS_AT_ONCE // rows_BL.shape[1])
    found = []
    for first in range(0, len(rows_BL), at_once):
        rows = torch.from_numpy(rows_BL[first : first + at_once]).to(gpt.embedding.weight.device)
        losses = gpt.loss(rows[:, :-1], rows[:, 1:], reduction="none")
        found.append(losses.cpu().double().view(len(rows), -1).numpy())
        hear(min(first + at_once, len(rows_BL)), len(rows_BL))
    return np.concatenate(found)


def loss_beyond(gpt: GPT, tokens: np.ndarray, factor: int, hear: Hear) -> float | None:
    """Compute the mean loss of what stands beyond the context, in nats per token.

    Each token after the first context is predicted once, but for a rest at the end, in windows of
    `factor` contexts. None: the model has no vectors for so many positions.
    """
    T = gpt.context_length
    known = known_positions(gpt)
    if known is not None and known < factor * T:
        return None
    starts_B = np.arange(0, len(tokens) - factor * T, (factor - 1) * T)
    rows_BL = tokens[starts_B[:, None] + np.arange(factor * T + 1)].astype(np.int64)
    return float(losses_of(gpt, rows_BL, hear)[:, T:].mean())


def mean_and_error(values_B: np.ndarray) -> tuple[float, float | None]:
    """The mean of rows, and its standard error."""
    n = len(values_B)
    return float(values_B.mean()), float(values_B.std(ddof=1) / n**0.5) if n > 1 else None
