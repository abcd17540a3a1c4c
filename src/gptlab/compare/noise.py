"""The noise floor: how much a recipe's metrics move when nothing but the seed is changed.

It is measured once for a recipe and kept as a JSON file. Verdicts use it to say how large an effect
is and how many more seeds would tell; it never makes an interval narrower.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy import stats

from gptlab import files
from gptlab.compare.results import FORMAT, Metric, NoiseFloor, NoiseOfMetric

MAX_BYTES = 1_000_000
PRIOR_FREEDOM = 2  # how many degrees of freedom the floor counts for beside a study's own seeds


def spread(values: Sequence[float], metric: Metric, confidence: float = 0.95) -> NoiseOfMetric:
    """Estimate the standard deviation over seeds, of logarithms for ratios; by chi-square.

    Raises ValueError for a single value.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"noise of {metric.name}: {n} run has a value, at least 2 are needed")
    x = np.log(values) if metric.scale == "ratio" else np.asarray(values, dtype=float)
    sd = float(x.std(ddof=1))
    low, high = (
        sd * math.sqrt((n - 1) / float(stats.chi2.isf(tail, n - 1)))
        for tail in ((1 - confidence) / 2, (1 + confidence) / 2)
    )
    mean = float(np.mean(values))
    return NoiseOfMetric(mean=mean, sd=sd, n=n, confidence=confidence, low=low, high=high)


def measure(
    recipe: str,
    identity: str,
    seeds: Sequence[int],
    values: Mapping[str, Sequence[float]],
    metrics: Sequence[Metric],
    lost: Sequence[int] = (),
) -> NoiseFloor:
    """Make the noise floor of a recipe; `values` holds a list over seeds for each metric.

    `lost`: seeds that have no values.
    """
    found = {metric.name: spread(values[metric.name], metric) for metric in metrics}
    return NoiseFloor(
        recipe=recipe, identity=identity, seeds=list(seeds), lost=list(lost), metrics=found
    )


def better(new: NoiseFloor, old: NoiseFloor | None) -> NoiseFloor:
    """Keep of every metric what is known from more runs, the new one if they are as many."""
    if old is None:
        return new
    kept = {name: each for name, each in old.metrics.items() if each.n > _runs(new, name)}
    longer = old if len(old.seeds) > len(new.seeds) else new
    return new.model_copy(
        update={"metrics": new.metrics | kept, "seeds": longer.seeds, "lost": longer.lost}
    )


def _runs(floor: NoiseFloor, metric: str) -> int:
    return floor.metrics[metric].n if metric in floor.metrics else 0


def save(floor: NoiseFloor, file: Path) -> None:
    files.replace(file, floor.model_dump_json(indent=1).encode() + b"\n")


def load(file: Path, identity: str) -> NoiseFloor | None:
    """Read the noise floor of a recipe; None if there is none. Raises ValueError for another's."""
    if not file.exists():
        return None
    try:
        floor = files.read_parsed(file, MAX_BYTES, _parse)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, or measure anew with gptlab noise") from None
    if floor.identity != identity:
        raise ValueError(
            f"{file}: the noise floor of another recipe ({floor.recipe}); measure anew"
        )
    return floor


def pair_sd(sd: float | None, freedom: float, floor: NoiseOfMetric | None) -> float | None:
    """Estimate for planning what a pair's difference varies by, from few pairs and the floor.

    Two runs of a recipe differ by sqrt(2) times the floor, so pairs that have much in common are
    planned with too many seeds rather than too few.
    """
    own = 0.0 if sd is None else freedom
    prior = 0 if floor is None else min(floor.n - 1, PRIOR_FREEDOM)
    if own + prior == 0:
        return None
    squares = (own * sd**2 if sd is not None else 0.0) + (prior * 2 * floor.sd**2 if floor else 0.0)
    return math.sqrt(squares / (own + prior)) or None


def _parse(content: bytes) -> NoiseFloor:
    try:
        floor = NoiseFloor.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ValueError("".join(f"{x}: " for x in problem["loc"]) + problem["msg"]) from None
    if floor.format != FORMAT:
        raise ValueError(f"format {floor.format}, this gptlab reads {FORMAT}")
    return floor
