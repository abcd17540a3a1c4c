"""Task: what a probe asks of a model.

Contract: `draw(rows, draw, condition)` makes rows whose answers stand in the targets, where only
these count, from nothing but the stream it is given. The rows of a condition agree in how hard they
are: it has a name, a chance and a ceiling. Training takes rows of the conditions that are `trained`
in equal shares; a probe tells how often the likeliest token is the answer, condition by condition.
`read` asks a trained run, where that makes sense.

N rows, T length.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptlab.config import Part
from gptlab.data.batching import IGNORED, Batch, stack
from gptlab.probes.draw import Draw
from gptlab.probes.reading import Findings, Hear, Text

HELD_OUT = 2**63  # the seed of what is asked: seeds of recipes are less
HELD_OUT_ROWS = 256  # of each condition


@dataclass(frozen=True)
class Condition:
    """A kind of rows.

    chance: the share of answers that is right without what the task asks for. ceiling: the share
    that the best reader of these rows gets right.
    """

    name: str
    what: Any
    chance: float
    ceiling: float = 1.0
    trained: bool = True


class Task(Part):
    """The slot of tasks."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many tokens there are."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """How many tokens the longest row has."""

    @abstractmethod
    def conditions(self) -> list[Condition]:
        """List what is asked, the hardest last. Raises ValueError for settings without room."""

    @abstractmethod
    def rows(self, N: int, draw: Draw, what: Any) -> Batch:
        """Make rows of a condition."""

    def asked(self, name: str, what: Any) -> Batch:
        """Make the rows of a condition that are asked of every model."""
        return self.rows(HELD_OUT_ROWS, Draw(HELD_OUT, self.variant, name), what)

    def training_rows(self, N: int, draw: Draw) -> Batch:
        """Make rows of all conditions that are trained, as many of each, or one more."""
        trained = [condition.what for condition in self.conditions() if condition.trained]
        shares = [N // len(trained) + (i < N % len(trained)) for i in range(len(trained))]
        return stack(
            [self.rows(share, draw, what) for share, what in zip(shares, trained, strict=True)]
        )

    def read(self, text: Text, hear: Hear) -> Findings:
        """Ask a trained run on its own text. Raises ValueError for what only training can tell."""
        raise ValueError(
            f"--task {self.variant} has to be learnt, and a run is not trained here: give "
            "RUN/config.yaml to probe its recipe, or another task"
        )


def answers_only(x_NT: np.ndarray, y_NT: np.ndarray, asked_NT: np.ndarray) -> Batch:
    """Make a batch whose targets count where something is asked."""
    return Batch(x_NT, np.where(asked_NT, y_NT, IGNORED))
