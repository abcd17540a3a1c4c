"""What speeds show: how many times faster the first arm is, and how sure that is.

A round gives one ratio per pair: of the geometric means of the two arms' turns in it. Over rounds
the median is told, with an interval by bootstrap, and a sign test. A speed-up is claimed only down
to the interval's lower end, and only if it stands out of the noise: the control is the first arm
once more, in another process, and whatever is not twice as far from 1 as its interval reaches is
not told from noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from gptlab.bench.protocol import Round, kept

ENOUGH = 5  # rounds for a claim
RESAMPLES = 9999


@dataclass(frozen=True)
class Ratio:
    """The median of so many `rounds`' ratios, its 95% interval, and the sign test's p."""

    median: float
    low: float
    high: float
    rounds: int
    p: float

    def claim(self, noise: float) -> float | None:
        """The speed-up that may be claimed, in two digits rounded down; None if none may."""
        if self.rounds < ENOUGH or self.low <= 1 or math.log(self.median) <= 2 * noise:
            return None
        if math.isinf(self.low):
            return self.low
        unit = 10.0 ** (math.floor(math.log10(self.low)) - 1)
        return math.floor(self.low / unit + 1e-9) * unit


def paired(rounds: Sequence[Round], first: str, other: str) -> list[float]:
    """Logarithms of first's speed over other's, of each round that counts."""
    return [_log_speed(each, first) - _log_speed(each, other) for each in kept(rounds)]


def ratio_of(logs: Sequence[float]) -> Ratio:
    """Sum up the logarithms of a pair's ratios. They are of one round at least."""
    values = np.array(logs)
    median = float(np.median(values))
    low, high = _interval(values) if len(values) > 1 else (-math.inf, math.inf)
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    p = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return Ratio(math.exp(median), _exp(low), _exp(high), len(values), float(p))


def noise(control: Ratio) -> float:
    """How far from 1, as a logarithm, two processes of the same arm may seem to be."""
    return max(abs(math.log(control.low or 1e-300)), abs(math.log(control.high)))


def _interval(values: np.ndarray) -> tuple[float, float]:
    if not np.isfinite(values).all():  # a run that never got there: order statistics do
        ordered = np.sort(values)
        return float(ordered[0]), float(ordered[-1])
    found: Any = stats.bootstrap(
        (values,),
        np.median,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _log_speed(each: Round, label: str) -> float:
    speeds = each.speeds[label]
    return sum(math.log(speed) if speed else -math.inf for speed in speeds) / len(speeds)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
