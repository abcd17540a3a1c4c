"""What a study will take, before anything of it is run."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gptlab.compare.arms import Arm
from gptlab.compare.budget import Counts, counts_of
from gptlab.compare.conduct import How, arms_for, noise_of, report_jobs
from gptlab.compare.jobs import Job
from gptlab.compare.looks import Looks, share
from gptlab.compare.noise import pair_sd
from gptlab.compare.power import smallest_effect
from gptlab.compare.question import refuse_another
from gptlab.compare.results import NoiseFloor
from gptlab.compare.runner import Runner
from gptlab.compare.study import Study
from gptlab.compare.timing import step_seconds
from gptlab.compare.tuning import first_jobs
from gptlab.model.accounting import FLOAT32_BYTES, count_flops
from gptlab.runs.folder import RunFolder
from gptlab.train.session import Say

COPIES = 3  # of the weights, in a checkpoint: themselves and AdamW's two averages
ALPHA = 0.05
KEPT = 2  # checkpoints that a run keeps: the last and the best


@dataclass(frozen=True)
class Plan:
    """`seconds`: of what is left to do, with `at_once` runs side by side; `disk` in bytes.

    `resolves`: by size, the smallest effect that would be found with a power of 80% at the look of
    that number, by the stored noise floor; null without one, or with one seed.
    """

    arms: list[Arm]
    counts: list[Counts]
    reports: int
    trials: int
    done: int
    at_once: int
    seconds: float
    disk: int
    free: int
    resolves: dict[str, float | None]
    look: int


def plan(study: Study, how: How, say: Say) -> Plan:
    """Work out what a study would run. Raises ValueError for whatever would stop it."""
    refuse_another(study, how.folder(study))
    arms = arms_for(study, how, say, keep=False)
    reports = report_jobs(study, arms)
    trials = first_jobs(study, study.tune, arms) if study.tune else []
    jobs = [*trials, *reports]
    left = [job for job in jobs if job.state(how.root) in ("new", "started")]
    at_once = Runner(how.root, how.folder(study), say, how.jobs, how.ray).at_once(
        jobs, left or jobs
    )
    pace = _Pace(arms, jobs, how.root)
    root = how.root.absolute()
    look = _look(study, arms, how)
    home = next(folder for folder in (root, *root.parents) if folder.exists())
    return Plan(
        arms,
        [counts_of(arm.recipe) for arm in arms],
        len(reports),
        len(trials),
        len(jobs) - len(left),
        at_once,
        sum(pace.seconds(job) for job in left) / min(at_once, max(1, len(left))),
        sum(_disk(job) for job in left),
        shutil.disk_usage(home).free,
        _resolves(study, arms, how, look),
        look,
    )


def _look(study: Study, arms: Sequence[Arm], how: How) -> int:
    """Number the look that the study's results will be, by the first metric."""
    scale = arms[0].scale
    names = [arm.name for arm in arms if arm.scale == scale]
    return Looks.load(how.folder(study)).planned(scale, names, study.seeds)


def _resolves(study: Study, arms: Sequence[Arm], how: How, look: int) -> dict[str, float | None]:
    """Find the smallest effect of the first metric, as if pairs had nothing in common.

    What is declared not to matter is no effect.
    """
    floors, metric = noise_of(arms, how), study.metrics[0]
    variants = sum(not arm.reference for arm in arms) // max(1, len(study.scales))

    def at(floor: NoiseFloor | None) -> float | None:
        sd = pair_sd(None, 0, floor.metrics.get(metric.label) if floor else None)
        if sd is None or len(study.seeds) < 2:
            return None
        effect = smallest_effect(len(study.seeds), sd, ALPHA * share(look) / variants)
        effect = math.exp(effect) if metric.scale == "ratio" else effect
        return max(effect, metric.margin or effect)

    return {arm.scale: at(floors.get(arm.scale)) for arm in arms if arm.reference}


class _Pace:
    """FLOPs per second: of runs that are there, else of a few steps of the reference."""

    def __init__(self, arms: Sequence[Arm], jobs: Sequence[Job], root: Path):
        self.known: dict[str, float] = {}
        for job in jobs:
            if job.state(root) == "done":
                last = RunFolder(job.folder(root)).metrics()[0][-1]
                counts = counts_of(job.recipe)
                rate = last["tokens"] * counts.flops_per_token / last["seconds"]
                self.known.setdefault(job.arm.name + job.arm.scale, rate)
        if self.known:
            self.otherwise = median(self.known.values())
        else:
            recipe = next(arm for arm in arms if arm.reference).recipe
            (seconds,) = step_seconds([recipe])
            self.otherwise = recipe.train.batch_tokens * counts_of(recipe).flops_per_token / seconds

    def seconds(self, job: Job) -> float:
        """Estimate a run, with its evaluations."""
        rate = self.known.get(job.arm.name + job.arm.scale, self.otherwise)
        counts, every = counts_of(job.recipe), job.recipe.train.evaluate_every
        evaluations = 1 + (counts.steps // every if every else 0)
        forward = count_flops(job.recipe.model).forward * job.arm.facts.val_tokens
        return (counts.training_flops + evaluations * forward) / rate


def _disk(job: Job) -> int:
    return KEPT * COPIES * FLOAT32_BYTES * counts_of(job.recipe).parameters
