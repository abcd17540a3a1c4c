"""How small an effect a number of seeds can find, and how many seeds an effect needs.

By the noncentral t, for pairs: `sd` is that of the difference of a pair. Of the standard deviation
of single runs it is at most sqrt(2) times, less the more the runs of a pair have in common. Of
several comparisons, Holm's first step takes alpha divided by their number.
"""

import math
from functools import cache

from scipy import special, stats
from scipy.optimize import root_scalar

MOST_SEEDS = 10_000
POWER = 0.8


def power_of(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Compute the chance that n pairs show an effect with its sign, in a two-sided test."""
    assert n >= 2
    shift = abs(effect) / sd * math.sqrt(n)
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    return float(stats.nct.sf(critical, n - 1, shift))


def smallest_effect(n: int, sd: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Compute the effect that n pairs show with a chance of `power`; infinite for one pair."""
    return sd * _smallest_ratio(n, alpha, power) if n >= 2 else math.inf


def seeds_needed(effect: float, sd: float, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Find the fewest pairs that show an effect with that power; None: above MOST_SEEDS."""
    ratio = abs(effect) / sd
    low, high = 1, 2
    while _smallest_ratio(high, alpha, power) > ratio:
        low, high = high, 2 * high
        if low >= MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if _smallest_ratio(middle, alpha, power) > ratio:
            low = middle
        else:
            high = middle
    return high


@cache
def _smallest_ratio(n: int, alpha: float, power: float) -> float:
    """Compute the smallest effect in standard deviations."""
    high = 1.0
    while power_of(n, high, 1.0, alpha) < power:
        high *= 2
    found = root_scalar(lambda x: power_of(n, x, 1.0, alpha) - power, bracket=(0.0, high))
    return float(found.root)
