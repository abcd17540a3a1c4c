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
    return _jobs(study, arms, _grids(tuning, arms))


def tune(
    study: Study, tuning: Tuning, arms: Sequence[Arm], root: Path, finish: Finish
) -> list[Tuned]:
    """Run the trials and choose; where an optimum is at an edge, all arms try one value more."""
    grids = _grids(tuning, arms)
    tuned = _try(study, arms, grids, root, finish)
    for _ in range(tuning.extensions):
        wider = _wider(tuning, grids, tuned)
        if wider == grids:
            break
        grids = wider
        tuned = _try(study, arms, grids, root, finish, extended=True)
    return [replace(each, arm=with_lr(each.arm, each.curve.chosen)) for each in tuned]


def _grids(tuning: Tuning, arms: Sequence[Arm]) -> list[list[float]]:
    """Give each arm's learning rates: those that go by its own, and by that of its likes.

    Arms with one optimizer try the same, so that none wins by having had a better one from start.
    """
    for number, arm in enumerate(arms):
        for other in arms[:number]:
            if arm.scale == other.scale and with_lr(arm, 1.0).recipe == with_lr(other, 1.0).recipe:
                raise ValueError(
                    f"{arm.name} and {other.name} differ in {SETTING} alone, which tuning chooses "
                    "for every arm: leave it out, or do not tune"
                )
    tried: dict[tuple[str, str], set[float]] = {}
    for arm in arms:
        tried.setdefault(_kind(arm), set()).update(tuning.values(arm.recipe.optimizer.lr))
    return [sorted(tried[_kind(arm)]) for arm in arms]


def _kind(arm: Arm) -> tuple[str, str]:
    return arm.scale, arm.recipe.optimizer.variant


def _try(
    study: Study,
    arms: Sequence[Arm],
    grids: list[list[float]],
    root: Path,
    finish: Finish,
    extended: bool = False,
) -> list[Tuned]:
    jobs = _jobs(study, arms, grids)
    finish(jobs)
    of_each = [(arm, [job for job in jobs if job.arm is arm]) for arm in arms]
    metric = study.metrics[0]
    return [Tuned(arm, _curve(arm, of, metric, root, extended), of) for arm, of in of_each]


def _jobs(study: Study, arms: Sequence[Arm], grids: list[list[float]]) -> list[Job]:
    return [
        Job.of(with_lr(arm, lr), seed, "tuning", arm)
        for arm, grid in zip(arms, grids, strict=True)
        for lr in grid
        for seed in tuning_seeds(study)
    ]


def _wider(tuning: Tuning, grids: list[list[float]], tuned: Sequence[Tuned]) -> list[list[float]]:
    """Give all arms of a size a value more at the end where one of them was best."""
    pairs = list(zip(grids, tuned, strict=True))
    low = {each.arm.scale for grid, each in pairs if each.curve.chosen == grid[0]}
    high = {each.arm.scale for grid, each in pairs if each.curve.chosen == grid[-1]}
    return [
        [
            *([grid[0] / tuning.step] if each.arm.scale in low else []),
            *grid,
            *([grid[-1] * tuning.step] if each.arm.scale in high else []),
        ]
        for grid, each in pairs
    ]


def _curve(arm: Arm, jobs: Sequence[Job], metric: Metric, root: Path, extended: bool) -> Curve:
    values = list(dict.fromkeys(job.recipe.optimizer.lr for job in jobs))
    of_each = {lr: [job for job in jobs if job.recipe.optimizer.lr == lr] for lr in values}
    trials = {lr: _trial(lr, of, metric, root) for lr, of in of_each.items()}
    known = {lr: trial.results for lr, trial in trials.items() if not trial.failed}
    if not known:
        raise ValueError(
            f"{arm.name}: no learning rate could be tried, as {jobs[0].label} and others failed: "
            "see failures.jsonl of the study"
        )
    chosen = min(known, key=lambda lr: _badness(known[lr], metric))
    return Curve(
        variant=arm.name,
        scale=arm.scale,
        setting=SETTING,
        metric=metric.label,
        trials=list(trials.values()),
        chosen=chosen,
        extended=extended,
        edge=chosen in (min(known), max(known)),
    )


def _trial(lr: float, jobs: Sequence[Job], metric: Metric, root: Path) -> Trial:
    """Read what came of one learning rate; runs that have not ended now failed time after time."""
    states = {job: job.state(root) for job in jobs}
    ended = [job for job, state in states.items() if state in ("done", "diverged")]
    return Trial(
        value=lr,
        seeds=[job.seed for job in ended],
        results=[_result(job, metric, root) if states[job] == "done" else None for job in ended],
        failed=[job.seed for job in jobs if job not in ended],
    )


def _result(job: Job, metric: Metric, root: Path) -> float | None:
    return metric.measure(MeasuredRun.of(RunFolder(job.folder(root))))


def _badness(results: Sequence[float | None], metric: Metric) -> float:
    known = [number for number in results if number is not None]
    if len(known) < len(results):
        return math.inf
    return fmean(known) * (1 if metric.better == "lower" else -1)


def with_lr(arm: Arm, lr: float) -> Arm:
    """Give an arm this learning rate."""
    return replace(arm, recipe=arm.recipe.but(optimizer=arm.recipe.optimizer.but(lr=lr)))
