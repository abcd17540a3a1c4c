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
    """Run a recipe with every seed and keep its noise floor; gives it and its file.

    What was known from more runs stays as it was.
    """
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(
            f"--seeds: noise takes two seeds or more, each once, not {', '.join(map(str, seeds))}"
        )
    recipe, facts = opened(for_study(recipe, say))
    name = recipe_identity(recipe, facts)
    file = how.noise_file(recipe.name, name)
    before = noise.load(file, name)
    for metric in metrics:
        metric.check(recipe, facts)
    arm = Arm(BASE, ONLY, (), recipe, facts, None, True)
    jobs = [Job.of(arm, seed, "report") for seed in seeds]
    Runner(how.root, how.studies / NOISE, say, how.jobs, how.ray).finish(jobs, "the noise")
    measure(metrics, jobs, how.root)
    states = {job.seed: job.state(how.root) for job in jobs}
    lost = {seed: state for seed, state in states.items() if state != "done"}
    for seed, state in lost.items():
        ending = "diverged" if state == "diverged" else "failed"
        say(f"seed {seed} {ending} and is left out: this is the noise of runs that end well")
    ended = [
        MeasuredRun.of(RunFolder(job.folder(how.root))) for job in jobs if job.seed not in lost
    ]
    values = {
        metric.label: [x for run in ended if (x := metric.measure(run)) is not None]
        for metric in metrics
    }
    known = [seed for seed in states if seed not in lost]
    described = [metric_of(metric) for metric in metrics]
    floor = noise.measure(recipe.name, name, known, values, described, list(lost))
    kept = noise.better(floor, before)
    for metric, found in kept.metrics.items():
        if metric in floor.metrics and found != floor.metrics[metric]:
            fewer = floor.metrics[metric].n
            say(f"{metric}: {file} knows it from {found.n} runs, these are {fewer}: it stays")
    noise.save(kept, file)
    return kept, file
