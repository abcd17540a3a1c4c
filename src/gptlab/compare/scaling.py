"""Does a gain survive scale? Curves of loss over sizes, and how a difference changes with them.

    L = E + A N^-alpha (+ B D^-beta)        fitted to log L with Huber's loss

after Hoffmann et al. (arXiv:2203.15556, approach 3). Besiroglu et al. (arXiv:2404.10102) showed how
that fit gave intervals far too narrow; so it starts from many places, runs until it has
converged, and is refused where there are too few sizes to know three numbers by.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import least_squares

FEWEST = 5  # sizes; of a second amount 4
DECADES = 1.5  # how far apart the smallest and the largest must be
BEND = 1e-2  # of log loss, about what seeds do; what is beyond counts by its size, not its square
RESAMPLES = 1_000


@dataclass(frozen=True)
class Known:
    """A number with the interval that it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """`floor` is E, what no size gets below; a factor (A, B) and an exponent for each amount."""

    floor: Known
    factors: list[Known]
    exponents: list[Known]

    def at(self, *amounts: float) -> float:
        """Compute the loss that the fitted curve has there."""
        terms = zip(self.factors, self.exponents, amounts, strict=True)
        return self.floor.value + sum(a.value * x**-power.value for a, power, x in terms)


def fit(
    amounts: Sequence[ArrayLike],
    losses: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PowerLaw:
    """Fit a power law to runs; `amounts` holds N of every run, and perhaps D of every run.

    Intervals are those of fits to the curve with its own residuals drawn again, made larger for
    what the fit took from them. Raises ValueError
    where there is too little to fit: then only points can be shown.
    """
    for x, fewest in zip(amounts, (FEWEST, FEWEST - 1), strict=False):
        _check(x, fewest)
    x = np.log(np.asarray(amounts, dtype=float)).T
    center, y = x.mean(axis=0), np.log(np.asarray(losses, dtype=float))
    x, freedom = x - center, len(y) - 1 - 2 * len(amounts)
    if freedom < 1:
        raise ValueError(f"{len(y)} runs are too few for a curve of {len(y) - freedom} numbers")
    best = min((_solve(x, y, start) for start in _starts(x, y)), key=lambda found: found.cost)
    curve, rng = _log_loss(best.x, x)[0], np.random.default_rng(seed)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    few = float(special.stdtrit(freedom, tails[1]) / special.ndtri(tails[1]))  # as t is wider
    residuals = (y - curve) * math.sqrt(len(y) / freedom) * few
    drawn = [
        _solve(x, curve + rng.choice(residuals, size=len(y)), best.x).x for _ in range(resamples)
    ]
    ours = _readable(best.x, center)
    ends = np.quantile([_readable(found, center) for found in drawn], tails, axis=0).T
    known = [Known(float(v), float(a), float(b)) for v, (a, b) in zip(ours, ends, strict=True)]
    n = len(amounts)
    return PowerLaw(known[0], known[1 : 1 + n], known[1 + n :])


def trend(
    differences: Mapping[float, Mapping[int, float]], confidence: float = 0.95
) -> tuple[Known, float] | None:
    """Tell how a difference changes when the size grows tenfold, and p of its being constant.

    `differences`: of each pair, by size and seed. A slope for every seed that all sizes have, and a
    t interval over them: noise may differ from size to size. None with fewer than two of either.
    """
    seeds = set.intersection(*(set(found) for found in differences.values()))
    if len(differences) < 2 or len(seeds) < 2:
        return None
    x = np.log10(list(differences))
    x -= x.mean()
    rows = np.array([[found[seed] for found in differences.values()] for seed in sorted(seeds)])
    slopes = rows @ x / (x @ x)
    error = float(slopes.std(ddof=1)) / math.sqrt(len(slopes))
    reach = error * float(special.stdtrit(len(slopes) - 1, (1 + confidence) / 2))
    middle = float(slopes.mean())
    p = 2 * float(special.stdtr(len(slopes) - 1, -abs(middle) / error)) if error else 1.0
    return Known(middle, middle - reach, middle + reach), p


def _check(amounts: ArrayLike, fewest: int) -> None:
    sizes = np.unique(np.asarray(amounts, dtype=float))
    decades = float(np.log10(sizes[-1] / sizes[0]))
    if len(sizes) < fewest or decades < DECADES:
        raise ValueError(
            f"a curve over {len(sizes)} sizes that span a factor of {10**decades:.3g} would be a "
            f"guess: at least {fewest} that span {10**DECADES:.0f} are needed"
        )


def _log_loss(numbers: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute log L, and how each number moves it; `numbers`: log E, log factors, exponents."""
    n = x.shape[1]
    terms = np.column_stack(
        [np.full(len(x), numbers[0]), numbers[1 : 1 + n] - numbers[1 + n :] * x]
    )
    total = np.logaddexp.reduce(terms, axis=1)
    shares = np.exp(terms - total[:, None])
    return total, np.column_stack([shares, -shares[:, 1:] * x])


def _solve(x: np.ndarray, y: np.ndarray, start: np.ndarray):
    return least_squares(
        lambda numbers: _log_loss(numbers, x)[0] - y,
        start,
        jac=lambda numbers: _log_loss(numbers, x)[1],  # pyright: ignore[reportArgumentType]
        loss="huber",
        f_scale=BEND,
        x_scale="jac",
        max_nfev=2_000,
    )


def _starts(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Begin at several floors and exponents; what is above the floor is shared by the factors."""
    n, lowest = x.shape[1], math.exp(float(y.min()))
    starts = []
    for part, *powers in product((0.3, 0.7, 0.95), *[(0.2, 0.5, 1.0)] * n):
        above = math.exp(float(y.mean())) - part * lowest
        starts.append(np.array([math.log(part * lowest), *[math.log(above / n)] * n, *powers]))
    return starts


def _readable(numbers: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Turn logarithms about the center into E, A, B, alpha, beta."""
    n = len(center)
    powers = numbers[1 + n :]
    return np.concatenate(
        [np.exp(numbers[:1]), np.exp(numbers[1 : 1 + n] + powers * center), powers]
    )
