"""In-context n-grams: every row has statistics of its own, to be learnt from the row (2402.11004).

    1 a b a b b a b a ...    here, after a mostly b stands, and after b mostly a

Each row is drawn from a Markov chain that is drawn for it: which token comes next depends on the
last one, or on the last two, a condition each; the row's first token says which. Asked is every
token. What comes next is left to chance, so that nobody is always right: the ceiling is the best
reader's, who counts what has followed the same tokens so far. Chance is that of who counts the
tokens of the row alone. Both are counted here, in the very rows that are asked: those of some are
easier than those of others, so that in many rows they would be others, by up to 0.03.

N rows, T length, S symbols, C contexts.
"""

from functools import cache

import numpy as np
from pydantic import Field, PositiveInt

from gptlab.data.batching import Batch
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Condition, Task

LEAST_TO_LEARN = 0.05  # between chance and ceiling


class NGrams(Task):
    """`orders`: how many tokens the next one depends on, a condition each. `symbols`: there are."""

    orders: tuple[PositiveInt, ...] = Field((1, 2), min_length=1)
    symbols: int = Field(4, ge=2)
    length: PositiveInt = 64

    @property
    def vocab_size(self) -> int:
        return self.symbols + max(self.orders)

    @property
    def context_length(self) -> int:
        return self.length

    def conditions(self) -> list[Condition]:
        for order in self.orders:
            if self.symbols**order > self.length // 2:
                raise ValueError(
                    f"ngrams.orders={order}: ngrams.symbols={self.symbols} have "
                    f"{self.symbols**order} contexts, and half of ngrams.length={self.length} is "
                    "too short to see them all"
                )
        return [self._condition(order) for order in self.orders]

    def _condition(self, order: int) -> Condition:
        name = f"order {order}"
        chance, ceiling = _chance_and_ceiling(self.symbols, self.length, order, name)
        if ceiling < chance + LEAST_TO_LEARN:
            raise ValueError(
                f"ngrams.length={self.length} is too short: who counts what follows is right in "
                f"{ceiling:.0%}, who counts tokens in {chance:.0%}"
            )
        return Condition(name, order, chance, ceiling)

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        symbols_NT = self.chains(N, draw, what)
        marker_N1 = np.full((N, 1), self.symbols + what - 1)
        x_NT = np.concatenate([marker_N1, symbols_NT[:, :-1]], axis=1)
        return Batch(x_NT, symbols_NT)

    def chains(self, N: int, draw: Draw, order: int) -> np.ndarray:
        """Draw a chain for each row, and the row from it."""
        C, all_N = self.symbols**order, np.arange(N)
        weights_NCS = draw.uniform(N, C, self.symbols) ** 8  # so that few are likely
        upto_NCS = weights_NCS.cumsum(-1)
        context_N, chance_TN = draw.integers(C, N), draw.uniform(self.length, N)
        symbols_NT = np.empty((N, self.length), np.int64)
        for t in range(self.length):
            upto_NS = upto_NCS[all_N, context_N]
            symbols_NT[:, t] = (upto_NS <= chance_TN[t, :, None] * upto_NS[:, -1:]).sum(-1)
            context_N = (context_N * self.symbols + symbols_NT[:, t]) % C
        return symbols_NT


@cache
def _chance_and_ceiling(symbols: int, length: int, order: int, name: str) -> tuple[float, float]:
    """Count how often those are right who count tokens, and tokens by what stood before them."""
    task = NGrams(orders=(order,), symbols=symbols, length=length)
    symbols_NT = task.asked(name, order).y_NT
    return _right(task, symbols_NT, 0), _right(task, symbols_NT, order)


def _right(task: NGrams, symbols_NT: np.ndarray, order: int) -> float:
    """The share of right answers by counts after the same `order` tokens; ties are shared."""
    all_N, S = np.arange(len(symbols_NT)), task.symbols
    counts_NCS = np.zeros((len(symbols_NT), S**order, S), np.int64)
    context_N, shares = np.zeros(len(symbols_NT), np.int64), []
    for t in range(task.length):
        counts_NS, next_N = counts_NCS[all_N, context_N], symbols_NT[:, t]
        is_top_NS = counts_NS == counts_NS.max(-1, keepdims=True)
        shares.append((is_top_NS[all_N, next_N] / is_top_NS.sum(-1)).mean())
        if t >= order:
            counts_NCS[all_N, context_N, next_N] += 1
        context_N = (context_N * S + next_N) % S**order
    return float(np.mean(shares))
