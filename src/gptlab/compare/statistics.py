"""What two arms of a study say of their difference: an estimate, its interval, a p-value.

An arm is a value for each seed; None: the run ended without one (it diverged, it never reached the
target), which is worse than any value. A seed that an arm lacks is missing: nothing is known of it.
Which method is used follows from which runs there are, never from how large their values are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special, stats

Arm = Mapping[int, float | None]
Better = Literal["lower", "higher"]
Method = Literal["paired t", "Welch's t", "ranks", "one seed", "none"]

MOST_ARRANGEMENTS = 20_000  # up to which ranks are tested by all of them: 8 runs against 8
NO_SPREAD = 1e-12  # of the values themselves: what is left of equal differences after rounding


@dataclass(frozen=True)
class Estimate:
    """The difference of two arms, variant - base, and how well it is known.

    `n` is the number of pairs, or of runs in the smaller arm; `sd` that of the difference of a
    pair, so that the mean is about sd / sqrt(n) uncertain; `error` is just that.
    `improved`: which way a test points, if `p` is small enough to ask.
    """

    method: Method
    n: int = 0
    base_value: float | None = None
    variant_value: float | None = None
    difference: float | None = None
    sd: float | None = None
    error: float | None = None
    freedom: float | None = None
    p: float | None = None
    improved: bool = False

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Bound the difference on both sides; None where there is no t to do it by."""
        if self.difference is None or self.error is None or self.freedom is None:
            return None
        reach = self.error * float(special.stdtrit(self.freedom, (1 + confidence) / 2))
        return self.difference - reach, self.difference + reach


def estimate(base: Arm, variant: Arm, better: Better = "lower", is_tested: bool = True) -> Estimate:
    """Compare two arms: by pairs if at least half of their seeds are common, else by Welch's t.

    No mean exists where a run is lost, and no t where all pairs differ by the same: ranks then.
    """
    shared = sorted(base.keys() & variant.keys())
    if not base or not variant or not is_tested:
        before, after = (median(list(arm.values()), better) for arm in (base, variant))
        return Estimate("none", 0, before, after)
    is_paired = len(shared) >= 2 and 2 * len(shared) >= max(len(base), len(variant))
    if not is_paired and (len(base) < 2 or len(variant) < 2):
        return _one_seed(base, variant, shared, better)
    if None in base.values() or None in variant.values():
        return _by_ranks(base, variant, better)
    if is_paired:
        found = _paired(_values(base, shared), _values(variant, shared), better)
    else:
        found = _welch(_values(base), _values(variant), better)
    return found or _by_ranks(base, variant, better)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that one false finding among them all is no likelier than in one test.

    Step down (Holm 1979): the smallest counts as often as there are tests, the next one less.
    """
    p, m = np.asarray(p_values, dtype=float), len(p_values)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def rank_test(
    base: Sequence[float | None], variant: Sequence[float | None], better: Better
) -> tuple[float, bool]:
    """Test by Mann and Whitney, two-sided, lost runs tied for the worst place: p, and which way.

    Exact over all arrangements while they can be counted. Arms that share their seeds resemble
    each other more than it assumes, so it finds less than it could, and nothing falsely.
    """
    x, y = _badness(base, better), _badness(variant, better)
    if np.unique(np.concatenate([x, y])).size == 1:
        return 1.0, False
    exact = math.comb(len(x) + len(y), len(x)) <= MOST_ARRANGEMENTS
    how: Any = stats.PermutationMethod(n_resamples=MOST_ARRANGEMENTS) if exact else "asymptotic"
    u, p = stats.mannwhitneyu(y, x, method=how)
    return float(p), bool(u < len(x) * len(y) / 2)


def median(values: Sequence[float | None], better: Better) -> float | None:
    """Find the median with lost runs worst; None if it is one of those, or of none."""
    middle = float(np.median(_badness(values, better))) if values else math.inf
    return (middle if better == "lower" else -middle) if math.isfinite(middle) else None


def _paired(base: np.ndarray, variant: np.ndarray, better: Better) -> Estimate | None:
    differences = variant - base
    n, sd = len(differences), float(differences.std(ddof=1))
    if sd <= NO_SPREAD * float(np.abs([base, variant]).max()):
        return None
    return _t("paired t", base, variant, better, (sd, sd / math.sqrt(n), n - 1))


def _welch(base: np.ndarray, variant: np.ndarray, better: Better) -> Estimate | None:
    parts = [float(x.var(ddof=1)) / len(x) for x in (base, variant)]
    error = math.sqrt(sum(parts))
    if error <= NO_SPREAD * float(np.abs(np.concatenate([base, variant])).max()):
        return None
    shares = zip(parts, (base, variant), strict=True)
    freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in shares)
    sd = math.sqrt(float(base.var(ddof=1) + variant.var(ddof=1)))
    return _t("Welch's t", base, variant, better, (sd, error, freedom))


def _t(
    method: Method,
    base: np.ndarray,
    variant: np.ndarray,
    better: Better,
    noise: tuple[float, float, float],
) -> Estimate:
    (sd, error, freedom), before, after = noise, float(base.mean()), float(variant.mean())
    difference = after - before
    p = 2 * float(special.stdtr(freedom, -abs(difference) / error))
    improved = difference < 0 if better == "lower" else difference > 0
    n = min(len(base), len(variant))
    return Estimate(method, n, before, after, difference, sd, error, freedom, p, improved)


def _by_ranks(base: Arm, variant: Arm, better: Better) -> Estimate:
    x, y = list(base.values()), list(variant.values())
    before, after = median(x, better), median(y, better)
    p, improved = rank_test(x, y, better)
    n = min(len(x), len(y))
    return Estimate("ranks", n, before, after, _minus(after, before), p=p, improved=improved)


def _one_seed(base: Arm, variant: Arm, shared: list[int], better: Better) -> Estimate:
    """Without a second run nothing is known of the noise: a difference and no more."""
    if shared:
        base, variant = ({seed: arm[seed] for seed in shared} for arm in (base, variant))
    before, after = (median(list(arm.values()), better) for arm in (base, variant))
    return Estimate("one seed", 1, before, after, _minus(after, before))


def _minus(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _values(arm: Arm, seeds: Sequence[int] | None = None) -> np.ndarray:
    return np.array([arm[seed] for seed in (arm if seeds is None else seeds)], dtype=float)


def _badness(values: Sequence[float | None], better: Better) -> np.ndarray:
    """Turn values around so that less is better, lost runs being worst."""
    sign = 1.0 if better == "lower" else -1.0
    return np.array([math.inf if x is None else sign * x for x in values])
