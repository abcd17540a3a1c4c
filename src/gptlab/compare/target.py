"""Steps, tokens or time to a target: censored where a run never gets there."""

import math
from collections.abc import Sequence


def first_reach(
    amounts: Sequence[float], losses: Sequence[float | None], target: float
) -> float | None:
    """Tell where a curve first comes down to the target; None if it never does.

    Between two evaluations it is taken to be straight, so that how often a run is evaluated
    neither delays the answer nor makes equal what is not. What was not evaluated is passed over.
    """
    before: tuple[float, float] | None = None
    for amount, loss in zip(amounts, losses, strict=True):
        if loss is None or not math.isfinite(loss):
            continue
        if loss <= target:
            if before is None:
                return amount
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (amount - before[0])
        before = amount, loss
    return None
