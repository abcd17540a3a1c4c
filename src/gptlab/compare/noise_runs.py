"""`gptlab noise`: the same recipe with many seeds, and what that tells of its noise."""

from collections.abc import Sequence
from pathlib import Path

from gptlab.compare import noise
from gptlab.compare.arms import ONLY, Arm, for_study
from gptlab.compare.collecting import metric_of
from gptlab.compare.conduct import How
from gptlab.compare.identity import recipe_identity
from gptlab.compare.jobs import Job
from gptlab.compare.measuring import measure
from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.compare.results import NoiseFloor
from gptlab.compare.runner import Runner
from gptlab.compare.study import BASE, NOISE
from gptlab.compare.texts import opened
from gptlab.runs.folder import RunFolder
from gptlab.train.recipe import Recipe
from gptlab.train.session import Say


def measure_noise(
    recipe: Recipe, seeds: Sequence[int], metrics: Sequence[Metric], how: How, say: Say
) -> tuple[NoiseFloor, Path]:
    """Run a recipe with every seed and keep its noise floor; gives it and its file."""
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(
            f"--seeds: noise takes two seeds or more, each once, not {', '.join(map(str, seeds))}"
        )
    recipe, facts = opened(for_study(recipe, say))
    for metric in metrics:
        metric.check(recipe, facts)
    arm = Arm(BASE, ONLY, (), recipe, facts, None, True)
    jobs = [Job.of(arm, seed, "report") for seed in seeds]
    runner = Runner(how.root, how.studies / NOISE, say, how.jobs, how.ray)
    runner.finish(jobs)
    measure(metrics, jobs, how.root)
    states = {job: job.state(how.root) for job in jobs}
    ended = [
        MeasuredRun.of(RunFolder(job.folder(how.root))) for job in jobs if states[job] == "done"
    ]
    values = {
        metric.label: [x for run in ended if (x := metric.measure(run)) is not None]
        for metric in metrics
    }
    name = recipe_identity(recipe, facts)
    floor = noise.measure(
        recipe.name,
        name,
        [job.seed for job in jobs if states[job] == "done"],
        values,
        [metric_of(metric) for metric in metrics],
    )
    file = how.noise_file(recipe.name, name)
    noise.save(floor, file)
    return floor, file
