"""Warm up, then fall along half a cosine (arXiv:1608.03983)."""

import math

from gptlab.train.schedules import Fraction, Schedule


class Cosine(Schedule):
    """`final`: the fraction of the peak at which the run ends."""

    final: Fraction = 0.1

    def after_warmup(self, progress: float) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
