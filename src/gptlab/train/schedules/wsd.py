"""Warm up, stay at the peak, then fall linearly (warmup-stable-decay, arXiv:2404.06395)."""

from gptlab.train.schedules import Fraction, Schedule


class WSD(Schedule):
    """`decay`: the fraction of the run, after the warm-up, that falls; `final`: where it ends."""

    decay: Fraction = 0.2
    final: Fraction = 0.0

    def after_warmup(self, progress: float) -> float:
        falling = max(0.0, progress - (1 - self.decay)) / self.decay if self.decay else 0.0
        return 1 - (1 - self.final) * falling
