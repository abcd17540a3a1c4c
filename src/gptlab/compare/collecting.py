"""From run folders to `results.json`: numbers are read from the folders, never remembered."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gptlab.compare import fairness, notes, results
from gptlab.compare.arms import Arm, reference_of
from gptlab.compare.budget import counts_of
from gptlab.compare.budgeted import budget_of
from gptlab.compare.jobs import Job
from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.compare.study import Study
from gptlab.compare.tuning import Tuned, tuning_seeds
from gptlab.model.accounting import cache_bytes
from gptlab.model.gpt import Model
from gptlab.model.memory import training_memory
from gptlab.runs.folder import CONFIG, RunFolder
from gptlab.train.recipe import Recipe

Draw = Callable[[Model], list[str]]


@dataclass(frozen=True)
class Conducted:
    """A study that has been run: its arms as they ended up, and all of their runs."""

    study: Study
    root: Path
    folder: Path
    command: str
    arms: list[Arm]
    jobs: list[Job]
    tuned: list[Tuned] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, arm: Arm) -> list[Job]:
        """Give the reported jobs of an arm."""
        return [job for job in self.jobs if job.arm is arm]


def collect(conducted: Conducted, draw: Draw) -> results.Results:
    """Write down all that the folders say; comparisons are made of it afterwards."""
    study, arms = conducted.study, conducted.arms
    everything = [*conducted.jobs, *(job for tuned in conducted.tuned for job in tuned.jobs)]
    runs = [run for job in everything if (run := _run(conducted, job)) is not None]
    costs = [_cost(conducted, arm, runs) for arm in arms]
    of_base = next(arm for arm in arms if arm.reference)
    return results.Results(
        name=study.name,
        question=study.in_words(),
        command=conducted.command,
        base=reference_of(study),
        scales=list(dict.fromkeys(arm.scale for arm in arms)),
        seeds=list(study.seeds),
        tuning_seeds=tuning_seeds(study),
        metrics=[metric_of(metric) for metric in study.metrics],
        variants=[_variant(study, arm, draw) for arm in arms if arm.scale == of_base.scale],
        budget=budget_of(study, arms, costs),
        tuning=[tuned.curve for tuned in conducted.tuned],
        runs=runs,
        costs=costs,
        comparisons=[],
        findings=[finding for arm in arms for finding in _findings(conducted, arm)],
        environment=_environment(conducted),
        notes=[*conducted.notes, *_notes(conducted, runs)],
    )


def metric_of(metric: Metric) -> results.Metric:
    """Describe a metric."""
    return results.Metric(
        name=metric.label,
        title=metric.heading,
        unit=metric.unit,
        better=metric.better,
        scale=metric.scale,
        per_token=metric.per_token,
        of_time=metric.depends_on_time,
        lost_means=metric.lost_means,
        margin=metric.margin,
        margin_source="declared" if metric.margin else "",
    )


def _variant(study: Study, arm: Arm, draw: Draw) -> results.Variant:
    settings = [setting for name in arm.variants for setting in _settings(study, name)]
    asked = study.base.override(study.settings)
    for name in arm.variants:
        asked = study.changed(asked, name)
    return results.Variant(
        name=arm.name,
        overrides=settings,
        recipe=asked.to_yaml(),
        wiring="\n".join(draw(arm.recipe.model)),
    )


def _settings(study: Study, name: str) -> list[str]:
    variant = study.variants[name]
    return [f"the recipe {variant.name}"] if isinstance(variant, Recipe) else list(variant)


def _run(conducted: Conducted, job: Job) -> results.Run | None:
    """Read a run; None if it has not ended, and nothing is known of why."""
    root, study = conducted.root, conducted.study
    path = job.folder(root)
    state, problem = job.state(root), conducted.failures.get(path.name, "")
    run = RunFolder(path)
    if state == "started" and not problem and run.status()["state"] == "failed":
        problem = run.status()["reason"]
    if state in ("new", "started") and not problem:
        return None
    has_ended = state in ("done", "diverged")
    measured = MeasuredRun.of(run)
    return results.Run(
        variant=job.arm.name,
        scale=job.arm.scale,
        seed=job.seed,
        role=job.role,
        settings={"optimizer.lr": job.recipe.optimizer.lr} if job.role == "tuning" else {},
        folder=os.path.relpath(path, conducted.folder),
        identity=job.identity,
        state=state if has_ended else "failed",  # pyright: ignore[reportArgumentType]
        problem=run.status()["reason"] if state == "diverged" else problem,
        command=_command(run) if path.exists() else conducted.command,
        metrics={
            metric.label: metric.measure(measured) if state == "done" else None
            for metric in study.measured_of(job.role)
        }
        if has_ended
        else {},
        curve=_curve(measured, counts_of(job.recipe).flops_per_token),
    )


def _command(run: RunFolder) -> str:
    """Say what repeats a run where its study was run: `train` finds a name that is free.

    On a CPU, other threads would round otherwise.
    """
    known = run.environment()
    threads = known.get("machine", {}).get("torch", {}).get("threads")
    same = f"OMP_NUM_THREADS={threads} " if known.get("device") == "cpu" and threads else ""
    return same + shlex.join(["gptlab", "train", str(run.path / CONFIG)])


def _curve(measured: MeasuredRun, flops_per_token: float) -> results.Curve:
    lines = measured.lines
    return results.Curve(
        steps=[line["step"] for line in lines],
        tokens=[line["tokens"] for line in lines],
        flops=[line["tokens"] * flops_per_token for line in lines],
        seconds=[line["seconds"] for line in lines],
        train_loss=[line["train_loss"] for line in lines],
        val_loss=[line["val_loss"] for line in lines],
    )


def _cost(conducted: Conducted, arm: Arm, runs: Sequence[results.Run]) -> results.Cost:
    counts, recipe = counts_of(arm.recipe), arm.recipe
    folders = [RunFolder(job.folder(conducted.root)) for job in conducted.of(arm)]
    curves = [
        run.curve
        for run in runs
        if (run.variant, run.scale, run.role) == (arm.name, arm.scale, "report")
        and run.state == "done"
        and run.curve.seconds
    ]
    speeds = [curve.tokens[-1] / curve.seconds[-1] for curve in curves if curve.seconds[-1]]
    return results.Cost(
        variant=arm.name,
        scale=arm.scale,
        parameters=counts.parameters,
        non_embedding=counts.non_embedding,
        flops_per_token=counts.flops_per_token,
        tokens=counts.tokens,
        tokens_per_second=median(speeds) if speeds else None,
        peak_memory_bytes=peak_memory(recipe),
        kv_bytes_per_token=cache_bytes(recipe.model).per_token,
        seconds=median(curve.seconds[-1] for curve in curves) if curves else None,
        timed_beside=sum(map(notes.shared_the_machine, folders)),
    )


def peak_memory(recipe: Recipe) -> int:
    """Estimate the memory of a training step by playing it through."""
    return training_memory(
        recipe.model,
        recipe.micro_batch_size(),
        recipe.optimizer.build,
        accumulate=recipe.batch_size() > recipe.micro_batch_size(),
        bf16=recipe.train.precision == "bf16",
    ).peak


def _findings(conducted: Conducted, arm: Arm) -> list[results.Finding]:
    """Compare the folders of an arm with those of its reference, seed by seed."""
    if arm.reference:
        return []
    reference = _reference(conducted, arm)
    root = conducted.root
    bases = {job.seed: job for job in conducted.of(reference)}
    pairs = [
        (RunFolder(bases[job.seed].folder(root)), RunFolder(job.folder(root)))
        for job in conducted.of(arm)
        if all(each.state(root) in ("done", "diverged") for each in (job, bases[job.seed]))
    ]
    declared = fairness.declared_by(reference.recipe, arm.recipe)
    return fairness.differing(arm.name, arm.scale, pairs, declared)


def _reference(conducted: Conducted, arm: Arm) -> Arm:
    return next(each for each in conducted.arms if each.reference and each.scale == arm.scale)


def _environment(conducted: Conducted) -> dict[str, object]:
    """Tell what the runs ran on: the first one's, since the guard compares all others with it."""
    for job in conducted.jobs:
        if job.folder(conducted.root).exists():
            return RunFolder(job.folder(conducted.root)).environment()
    return {}


def _notes(conducted: Conducted, runs: Sequence[results.Run]) -> list[str]:
    listed = {run.identity for run in runs}
    missing = [job.label for job in conducted.jobs if job.identity not in listed]
    told = [f"not run yet: {'; '.join(missing)}"] * bool(missing)
    told += [
        note for arm in conducted.arms if (note := notes.on_budget(arm, _reference(conducted, arm)))
    ]
    return told + [note for tuned in conducted.tuned for note in notes.on_tuning(tuned.curve)]
