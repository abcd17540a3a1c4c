"""Induction: what came after this token the last time (arXiv:2209.11895).

    d a c b d a c b d a ...    asked from the second time on: d a c b d a ...

A row repeats a random order of a few tokens; how many, its period, is drawn anew for each row, so
that no fixed distance gives the answer. Asked is every token that the row has determined. Who knows
the tokens of the row, but not their order, is right once in a period.

Of a trained run: the loss on a piece of its validation text that is read twice over, the first and
the second time. How much less it is then is what copying within the context brings.

N rows, T length.
"""

import numpy as np
from pydantic import PositiveInt

from gptlab.data.batching import Batch
from gptlab.probes.draw import Draw
from gptlab.probes.reading import Finding, Findings, Hear, Text, losses_of, mean_and_error
from gptlab.probes.tasks import Condition, Task, answers_only

PIECES = 200  # of a run's text


class Induction(Task):
    """`longest`: the longest period; the shortest is a quarter of it. `tokens`: how many exist."""

    length: PositiveInt = 48
    longest: PositiveInt = 24
    tokens: PositiveInt = 64

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def context_length(self) -> int:
        return self.length

    @property
    def periods(self) -> np.ndarray:
        """The periods that there are."""
        return np.arange(max(2, self.longest // 4), self.longest + 1)

    def conditions(self) -> list[Condition]:
        most = min(self.length - 1, self.tokens)
        if not 2 <= self.longest <= most:
            raise ValueError(
                f"induction.longest={self.longest} must be from 2 to {most}: "
                f"induction.length={self.length}, induction.tokens={self.tokens}"
            )
        chance = chance_of(self.periods, 0, self.length)
        return [Condition(f"{self.length} tokens", self.length, chance)]

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        return repetitions(N, what, self.periods, self.tokens, draw)

    def read(self, text: Text, hear: Hear) -> Findings:
        half = text.T // 2
        n = min(PIECES, len(text.tokens) // max(1, half))
        if half < 2 or n < 2:
            raise ValueError(
                f"--task induction reads pieces of {half} tokens twice, half of the context, and "
                f"the validation text has {len(text.tokens):,}: too few"
            )
        starts = np.linspace(0, len(text.tokens) - half, n).astype(np.int64)[:, None]
        pieces_BL = text.tokens[starts + np.arange(half)]
        losses_BL = losses_of(text.model.model, np.tile(pieces_BL, 2), hear)
        first_B, second_B = losses_BL[:, : half - 1].mean(1), losses_BL[:, half:].mean(1)
        return Findings(
            self.variant,
            "loss, nats per token",
            [
                Finding("read once", *mean_and_error(first_B)),
                Finding("read again", *mean_and_error(second_B)),
                Finding("gain by copying", *mean_and_error(first_B - second_B)),
            ],
        )


def repetitions(N: int, T: int, periods: np.ndarray, tokens: int, draw: Draw) -> Batch:
    """Make rows that repeat an order of tokens, with a period that is drawn for each."""
    period_N1 = periods[draw.integers(len(periods), N, 1)]
    order_NV = draw.orders(N, tokens)
    at_NS = np.arange(T + 1) % period_N1
    both_NS = np.take_along_axis(order_NV, at_NS, axis=1)
    return answers_only(both_NS[:, :-1], both_NS[:, 1:], np.arange(T) >= period_N1)


def chance_of(periods: np.ndarray, start: int, stop: int) -> float:
    """The mean of 1 / period over what is asked from `start` up to before `stop`."""
    asked = stop - np.maximum(start, periods)
    return float((asked / periods).sum() / asked.sum())
