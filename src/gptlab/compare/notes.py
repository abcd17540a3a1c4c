"""What a reader must know beside the numbers, from the folders of runs and of a study."""

from collections.abc import Sequence
from pathlib import Path

from gptlab.compare import failures, results
from gptlab.compare.arms import Arm
from gptlab.compare.budget import TOLERANCE, counts_of
from gptlab.compare.budgeted import NOUNS
from gptlab.compare.jobs import Job
from gptlab.compare.study import Study
from gptlab.runs.folder import RunFolder


def on_time(study: Study, jobs: Sequence[Job], root: Path) -> list[str]:
    """Say of how many runs the time was taken beside others, whatever is asked for by now."""
    names = [metric.label for metric in study.metrics if metric.depends_on_time]
    runs = [RunFolder(job.folder(root)) for job in jobs if names]
    beside = sum(shared_the_machine(run) for run in runs)
    if not beside:
        return []
    return [
        f"{', '.join(names)}: {beside} of {len(jobs)} runs were timed beside others; remove their "
        "folders and use --jobs 1 to time them alone (which makes other results, and so another "
        "look)"
    ]


def shared_the_machine(run: RunFolder) -> bool:
    """Tell whether a run, or a part of it, had only its share of the cores."""
    known = run.environment()
    places = [each["machine"] for each in (known, *known.get("continued", [])) if "machine" in each]
    return any(place["torch"]["threads"] < place["cores"]["usable"] for place in places)


def on_failures(folder: Path) -> list[str]:
    """Say what of the failures of before cannot be read."""
    _, damaged = failures.kept(folder)
    return [f"{folder / failures.FAILURES}: {damaged} damaged lines are left out"] * bool(damaged)


def on_arms(study: Study, arms: Sequence[Arm]) -> list[str]:
    """Say what metrics have to say of arms."""
    references = {arm.scale: arm for arm in arms if arm.reference}
    return [
        f"{metric.label}: {arm.name} {note}"
        for metric in study.metrics
        for arm in arms
        if not arm.reference and (note := metric.note(arm.recipe, references[arm.scale].recipe))
    ]


def on_budget(arm: Arm, reference: Arm) -> str:
    """Say in what an arm has more or less than its reference, whatever was matched."""
    mine, its = counts_of(arm.recipe), counts_of(reference.recipe)
    names = {"params": "non_embedding", "flops": "training_flops", "tokens": "tokens"}
    shares = {
        noun: getattr(mine, names[axis]) / getattr(its, names[axis]) - 1
        for axis, noun in NOUNS.items()
        if axis in names
    }
    unequal = [f"{share:+.1%} {noun}" for noun, share in shares.items() if abs(share) > TOLERANCE]
    at = f" at {arm.scale}" if arm.scale else ""
    return f"{arm.name}{at} has {', '.join(unequal)}" if unequal else ""


def on_tuning(curve: results.Tuning) -> list[str]:
    """Say which learning rates could not be tried."""
    who = f"{curve.variant} at {curve.scale}" if curve.scale else curve.variant
    return [
        f"{who}: {curve.setting} {trial.value:g} failed (seed {', '.join(map(str, trial.failed))}) "
        "and was not chosen from"
        for trial in curve.trials
        if trial.failed
    ]
