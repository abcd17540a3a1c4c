"""Tuning: the same few learning rates for every arm, on seeds that are not reported."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from gptlab.compare.arms import Arm
from gptlab.compare.jobs import Job
from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.compare.results import Trial
from gptlab.compare.results import Tuning as Curve
from gptlab.compare.study import Study, Tuning
from gptlab.runs.folder import RunFolder

FIRST_SEED = 10_000
SETTING = "optimizer.lr"
Finish = Callable[[Sequence[Job]], None]


@dataclass(frozen=True)
class Tuned:
    """An arm with its learning rate, the curve it was chosen from, and the runs of that."""

    arm: Arm
    curve: Curve
    jobs: list[Job]


def tuning_seeds(study: Study) -> list[int]:
    """Choose seeds that the study does not report."""
    first = max(FIRST_SEED, *(seed + 1 for seed in study.seeds))
    return list(range(first, first + study.tune.seeds)) if study.tune else []


def first_jobs(study: Study, tuning: Tuning, arms: Sequence[Arm]) -> list[Job]:
    """Plan the runs of tuning, before any extension."""
    values = {arm.scale: tuning.values(_base_lr(arms, arm)) for arm in arms}
    return _jobs(arms, values, tuning_seeds(study))


def tune(
    study: Study, tuning: Tuning, arms: Sequence[Arm], root: Path, finish: Finish
) -> list[Tuned]:
    """Run the trials and choose; where an optimum is at an edge, all arms try one value more."""
    grids = {arm.scale: tuning.values(_base_lr(arms, arm)) for arm in arms}
    tuned = _try(study, arms, grids, root, finish)
    for _ in range(tuning.extensions):
        wider = {scale: _wider(grid, tuned, scale) for scale, grid in grids.items()}
        if wider == grids:
            break
        grids = wider
        tuned = _try(study, arms, grids, root, finish, extended=True)
    return [replace(each, arm=_with_lr(each.arm, each.curve.chosen)) for each in tuned]


def _try(
    study: Study,
    arms: Sequence[Arm],
    grids: dict[str, list[float]],
    root: Path,
    finish: Finish,
    extended: bool = False,
) -> list[Tuned]:
    jobs = _jobs(arms, grids, tuning_seeds(study))
    finish(jobs)
    of_each = [(arm, [job for job in jobs if job.arm is arm]) for arm in arms]
    metric = study.metrics[0]
    return [Tuned(arm, _curve(arm, of, metric, root, extended), of) for arm, of in of_each]


def _base_lr(arms: Sequence[Arm], arm: Arm) -> float:
    reference = next(each for each in arms if each.reference and each.scale == arm.scale)
    return reference.recipe.optimizer.lr


def _jobs(arms: Sequence[Arm], grids: dict[str, list[float]], seeds: Sequence[int]) -> list[Job]:
    return [
        Job.of(arm, seed, "tuning", lr) for arm in arms for lr in grids[arm.scale] for seed in seeds
    ]


def _wider(grid: list[float], tuned: Sequence[Tuned], scale: str) -> list[float]:
    """Add a value where an arm was best at the end of the range."""
    best = {each.curve.chosen for each in tuned if each.arm.scale == scale}
    low, high = grid[0] ** 2 / grid[1], grid[-1] ** 2 / grid[-2]
    return [*([low] if grid[0] in best else []), *grid, *([high] if grid[-1] in best else [])]


def _curve(arm: Arm, jobs: Sequence[Job], metric: Metric, root: Path, extended: bool) -> Curve:
    trials: dict[float, dict[int, float | None]] = {}
    for job in jobs:
        trials.setdefault(job.recipe.optimizer.lr, {})[job.seed] = _result(job, metric, root)
    chosen = min(trials, key=lambda lr: _badness(list(trials[lr].values()), metric))
    return Curve(
        variant=arm.name,
        scale=arm.scale,
        setting=SETTING,
        metric=metric.label,
        trials=[
            Trial(value=lr, seeds=list(results), results=list(results.values()))
            for lr, results in trials.items()
        ],
        chosen=chosen,
        extended=extended,
        edge=chosen in (min(trials), max(trials)),
    )


def _result(job: Job, metric: Metric, root: Path) -> float | None:
    if job.state(root) != "done":  # it diverged, or failed time after time
        return None
    return metric.measure(MeasuredRun.of(RunFolder(job.folder(root))))


def _badness(results: Sequence[float | None], metric: Metric) -> float:
    known = [number for number in results if number is not None]
    if len(known) < len(results):
        return math.inf
    return fmean(known) * (1 if metric.better == "lower" else -1)


def _with_lr(arm: Arm, lr: float) -> Arm:
    return replace(arm, recipe=arm.recipe.but(optimizer=arm.recipe.optimizer.but(lr=lr)))
