"""Associative recall of many pairs (MQAR, arXiv:2312.04927).

    k1 v1 k2 v2 k3 v3 k2 k3 k1    answers, at the last three: v2 v3 v1

Keys with their values come first, then each key once more, in any order, and its value is asked; it
does not stand in the row again. A row has as many such blocks as fit, with keys and values of their
own. Who knows which values a block has, but not whose, is right once in as many times as there are
pairs: that is the chance.

N rows, C blocks, P pairs.
"""

import numpy as np
from pydantic import Field, PositiveInt

from gptlab.data.batching import IGNORED, Batch
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Condition, Task


class MQAR(Task):
    """`pairs`: of a block; each number is a condition. `tokens`: half are keys, half are values."""

    pairs: tuple[PositiveInt, ...] = Field((2, 4, 8), min_length=1)
    length: PositiveInt = 24
    tokens: PositiveInt = 64

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def context_length(self) -> int:
        return self.length

    def conditions(self) -> list[Condition]:
        for P in self.pairs:
            if self.length % (3 * P) or self.length // 3 > self.tokens // 2:
                raise ValueError(
                    f"mqar.pairs={P}: mqar.length={self.length} must be a multiple of {3 * P}, and "
                    f"mqar.tokens={self.tokens} at least two thirds of it"
                )
        return [Condition(f"{P} pairs", P, 1 / P) for P in self.pairs]

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        shape, half = (N, self.length // (3 * what), what), self.tokens // 2
        n_keys = shape[1] * what
        keys_NCP = draw.orders(N, half)[:, :n_keys].reshape(shape)
        values_NCP = half + draw.orders(N, half)[:, :n_keys].reshape(shape)
        order_NCP = draw.orders(shape[0] * shape[1], what).reshape(shape)
        pairs_NC2P = np.stack([keys_NCP, values_NCP], axis=-1).reshape(*shape[:2], -1)
        asked_NCP = np.take_along_axis(keys_NCP, order_NCP, axis=2)
        answers_NCP = np.take_along_axis(values_NCP, order_NCP, axis=2)
        nothing_NC2P = np.full_like(pairs_NC2P, IGNORED)
        x_NCT = np.concatenate([pairs_NC2P, asked_NCP], axis=2)
        y_NCT = np.concatenate([nothing_NC2P, answers_NCP], axis=2)
        return Batch(x_NCT.reshape(N, -1), y_NCT.reshape(N, -1))
