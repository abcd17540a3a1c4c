"""Selective copying (arXiv:2111.00396, arXiv:2312.00752): the few tokens that mattered, in order.

    . b . . d a . . . . . . : b d a        answers, from the colon on: b d a c
      (4 tokens in the first part, then a gap, then what was there)

What is to be copied stands anywhere in the first part; fillers are skipped, however many. The gap
before the copy is the distance that has to be bridged, a condition each: what sees no further than
the gap, all layers together, cannot copy. Who knows which tokens are still to come, but not their
order, is right once in as many times as there are: the mean of that is the chance.

N rows, M tokens to be copied, P length of the first part.
"""

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from gptlab.data.batching import IGNORED, Batch
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Condition, Task

FILLER, COLON, FIRST = 0, 1, 2


class SelectiveCopy(Task):
    """`gaps`: fillers between the first part and the copy, a condition each.

    `items`: how many tokens are copied; `room`: how long the first part is; `tokens`: how many
    different ones there are.
    """

    gaps: tuple[NonNegativeInt, ...] = Field((0, 16, 32), min_length=1)
    items: PositiveInt = 6
    room: PositiveInt = 12
    tokens: PositiveInt = 32

    @property
    def vocab_size(self) -> int:
        return FIRST + self.tokens

    @property
    def context_length(self) -> int:
        return self.room + max(self.gaps) + self.items

    def conditions(self) -> list[Condition]:
        most = min(self.room, self.tokens)
        if self.items > most:
            raise ValueError(
                f"selective_copy.items={self.items} is more than {most}: "
                f"selective_copy.room={self.room}, selective_copy.tokens={self.tokens}"
            )
        chance = sum(1 / left for left in range(1, self.items + 1)) / self.items
        return [Condition(f"gap of {gap}", gap, chance) for gap in self.gaps]

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        items_NM = FIRST + draw.orders(N, self.tokens)[:, : self.items]
        places_NM = np.sort(draw.orders(N, self.room)[:, : self.items], axis=1)
        x_NT = np.full((N, self.context_length), FILLER)
        y_NT = np.full_like(x_NT, IGNORED)
        first = self.room + what
        np.put_along_axis(x_NT, places_NM, items_NM, axis=1)
        x_NT[:, first] = COLON
        x_NT[:, first + 1 : first + self.items] = items_NM[:, :-1]
        y_NT[:, first : first + self.items] = items_NM
        return Batch(x_NT, y_NT)
