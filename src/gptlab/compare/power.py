"""How small an effect a number of seeds can find, and how many seeds an effect needs.

By the noncentral t, for pairs: `sd` is that of the difference of a pair. Of the standard deviation
of single runs it is at most sqrt(2) times, less the more the runs of a pair have in common. Of
several comparisons, Holm's first step takes alpha divided by their number. It is integrated here,
since scipy's series does not converge for the large t that two pairs and a small alpha ask for.
"""

import math
from functools import cache

import numpy as np
from scipy import special
from scipy.optimize import root_scalar

MOST_SEEDS = 10_000
POWER = 0.8
Z = np.linspace(-8.0, 8.0, 801)
DENSITY = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def power_of(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Compute the chance that n pairs show an effect with its sign, in a two-sided test."""
    assert n >= 2
    shift = abs(effect) / sd * math.sqrt(n)
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    ratios = np.maximum(Z + shift, 0.0) / critical  # below which the estimated sd must be
    return float(special.chdtr(n - 1, (n - 1) * ratios**2) @ DENSITY)


def smallest_effect(n: int, sd: float, alpha: float = 0.05, power: float = POWER) -> float:
    """Compute the effect that n pairs show with a chance of `power`; infinite for one pair."""
    return sd * _smallest_ratio(n, alpha, power) if n >= 2 else math.inf


def seeds_needed(effect: float, sd: float, alpha: float = 0.05, power: float = POWER) -> int | None:
    """Find the fewest pairs that show an effect with that power; None: above MOST_SEEDS."""
    critical = float(special.ndtri(1 - alpha / 2))
    rough = ((critical + float(special.ndtri(power))) * sd / abs(effect)) ** 2 + critical**2 / 2
    if rough > MOST_SEEDS:
        return None
    n = max(2, round(rough))
    while power_of(n, effect, sd, alpha) < power:
        n += 1
    while n > 2 and power_of(n - 1, effect, sd, alpha) >= power:
        n -= 1
    return n


@cache
def _smallest_ratio(n: int, alpha: float, power: float) -> float:
    """Compute the smallest effect in standard deviations."""
    high = 1.0
    while power_of(n, high, 1.0, alpha) < power:
        high *= 2
    found = root_scalar(lambda x: power_of(n, x, 1.0, alpha) - power, bracket=(0.0, high))
    return float(found.root)
