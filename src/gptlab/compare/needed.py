"""About how many more seeds would resolve what a study leaves open."""

from gptlab.compare.family import Family
from gptlab.compare.power import seeds_needed
from gptlab.compare.statistics import Arm, Estimate, rank_test

MOST_REPEATS = 20


def more_seeds(family: Family, variant: Arm, found: Estimate, sd: float | None) -> int | None:
    """Say how many more seeds each arm needs if it goes on like this; None: nobody knows.

    Either verdict will do: that the difference is there, or that it is smaller than the margin; at
    the level of the look that those seeds will be judged at.
    `sd`: what the difference of a pair is expected to vary by.
    """
    if found.method == "ranks":
        return _until_ranks_tell(family, variant)
    if found.difference is None or sd is None:
        return None
    difference = abs(found.difference)
    effects = [x for x in (difference, (family.margin or 0.0) - difference) if x > 0]
    needed = [seeds_needed(effect, sd, family.following_level) for effect in effects]
    enough = [seeds for seeds in needed if seeds is not None]
    return max(min(enough) - found.n, 1) if enough else None


def _until_ranks_tell(family: Family, variant: Arm) -> int | None:
    """Repeat what there is until its ranks are significant."""
    base, other = list(family.base.values()), list(variant.values())
    for repeats in range(2, MOST_REPEATS + 1):
        p, _ = rank_test(base * repeats, other * repeats, family.metric.better)
        if p <= family.following_level:
            return (repeats - 1) * min(len(base), len(other))
    return None
