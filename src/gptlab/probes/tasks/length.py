"""Length: what is learnt in short rows, asked in rows of twice and four times their length.

Rows repeat an order of tokens, as those of induction do, with periods so short that the answer is
always near. So nothing but the length is new: a model that fails beyond the length of training
fails for its positions. All positions exist in the model; those beyond were never trained.

Of a trained run: the loss by position, in windows of its validation text longer than its context.

N rows, T length.
"""

import numpy as np
from pydantic import Field, PositiveInt

from gptlab.data.batching import IGNORED, Batch
from gptlab.probes.draw import Draw
from gptlab.probes.reading import (
    Finding,
    Findings,
    Hear,
    Text,
    known_positions,
    losses_of,
    mean_and_error,
)
from gptlab.probes.tasks import Condition, Task
from gptlab.probes.tasks.induction import chance_of, repetitions

READ_AT_MOST = 2**17  # tokens of a run's text
POINTS = 64  # of a curve


class Length(Task):
    """`length`: of training. `times`: how much longer rows are asked in; a condition is their end.

    `longest`: the longest period. `tokens`: how many there are.
    """

    length: PositiveInt = 32
    times: tuple[PositiveInt, ...] = Field((1, 2, 4), min_length=1)
    longest: PositiveInt = 12
    tokens: PositiveInt = 32

    @property
    def vocab_size(self) -> int:
        return self.tokens

    @property
    def context_length(self) -> int:
        return self.length * max(self.times)

    @property
    def periods(self) -> np.ndarray:
        """The periods that there are."""
        return np.arange(max(2, self.longest // 2), self.longest + 1)

    def conditions(self) -> list[Condition]:
        most = min(self.length // 2, self.tokens)
        if not 2 <= self.longest <= most:
            raise ValueError(
                f"length.longest={self.longest} must be from 2 to {most}: "
                f"length.length={self.length}, length.tokens={self.tokens}"
            )
        if 1 not in self.times:
            raise ValueError(f"length.times={self.times} must have 1, the length of training")
        return [
            Condition(
                f"{times}x, {times * self.length} tokens",
                times,
                chance_of(self.periods, self.asked_from(times), times * self.length),
                trained=times == 1,
            )
            for times in self.times
        ]

    def asked_from(self, times: int) -> int:
        """Where a row's last quarter of the training length begins."""
        return times * self.length - self.length // 4

    def training_rows(self, N: int, draw: Draw) -> Batch:
        return repetitions(N, self.length, self.periods, self.tokens, draw)

    def rows(self, N: int, draw: Draw, what: int) -> Batch:
        T = what * self.length
        batch = repetitions(N, T, self.periods, self.tokens, draw)
        is_late_T = np.arange(T) >= self.asked_from(what)
        return Batch(batch.x_NT, np.where(is_late_T, batch.y_NT, IGNORED))

    def read(self, text: Text, hear: Hear) -> Findings:
        T, gpt, longest = text.T, text.model.model, max(self.times)
        known = known_positions(gpt)
        reach = T * longest if known is None else min(known, T * longest)
        n_rows = min(len(text.tokens) - 1, READ_AT_MOST) // reach
        if not n_rows:
            raise ValueError(
                f"length.times={longest}: the validation text has {len(text.tokens):,} tokens, "
                f"and {reach + 1:,} are needed; ask for less"
            )
        starts = np.arange(n_rows)[:, None] * reach
        losses_BL = losses_of(gpt, text.tokens[starts + np.arange(reach + 1)], hear)
        ends = [T // 2, *(T * times for times in sorted(self.times))]
        findings = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            name = f"positions {start:,} to {end - 1:,}"
            if end > reach:
                why = f"its positions end at {reach:,}"
                findings.append(Finding(name, None, why_not=why))
                continue
            findings.append(Finding(name, *mean_and_error(losses_BL[:, start:end].mean(1))))
        width = max(1, reach // POINTS)
        curve = [
            (at, float(losses_BL[:, at : at + width].mean()))
            for at in range(0, reach - width + 1, width)
        ]
        return Findings(self.variant, "loss, nats per token", findings, curve)
