"""A needle in a haystack: one value, somewhere in a row that is of no interest, asked at the end.

    . . . . ! b . . . . . . . . . !    asked at the last token alone: b

The mark stands before the value and once more at the end; around them is text that never has a
value. Nothing is difficult but the distance: a condition is how deep in the row the mark stands, 0%
at its beginning. Training has any depth. Who knows which tokens are values has the chance.

Attention with windows of W tokens reads W - 1 tokens back, L layers of it L * (W - 1): that is how
far before the end a value may stand.

N rows, T length.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from gptlab.data.batching import IGNORED, Batch
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Condition, Task

MARK, FIRST = 0, 1
Percent = Annotated[int, Field(ge=0, le=100)]


class Needle(Task):
    """`depths`: in percent, a condition each. `values`, `tokens` (of the text): how many exist."""

    depths: tuple[Percent, ...] = Field((100, 75, 50, 25, 0), min_length=1)
    length: int = Field(64, ge=4)
    values: int = Field(8, ge=2)
    tokens: int = Field(32, ge=1)

    @property
    def vocab_size(self) -> int:
        return FIRST + self.values + self.tokens

    @property
    def context_length(self) -> int:
        return self.length

    def conditions(self) -> list[Condition]:
        return [
            Condition(f"depth {depth}%, {self.distance(depth)} back", depth, 1 / self.values)
            for depth in self.depths
        ]

    def distance(self, depth: int) -> int:
        """Tell how many tokens before the end the value stands."""
        return self.length - 2 - self.place(depth)

    def place(self, depth: int) -> int:
        """Tell where the mark stands."""
        return depth * (self.length - 3) // 100

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        return self._hidden(np.full((N, 1), self.place(what)), draw)

    def training_rows(self, N: int, draw: Draw) -> Batch:
        return self._hidden(draw.integers(self.length - 2, N, 1), draw)

    def _hidden(self, places_N1: np.ndarray, draw: Draw) -> Batch:
        N = len(places_N1)
        value_N1 = FIRST + draw.integers(self.values, N, 1)
        x_NT = FIRST + self.values + draw.integers(self.tokens, N, self.length)
        np.put_along_axis(x_NT, places_N1, MARK, axis=1)
        np.put_along_axis(x_NT, places_N1 + 1, value_N1, axis=1)
        x_NT[:, -1] = MARK
        y_NT = np.full_like(x_NT, IGNORED)
        y_NT[:, -1:] = value_N1
        return Batch(x_NT, y_NT)
