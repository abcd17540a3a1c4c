"""A study from its declaration to its results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptlab import files
from gptlab.compare import failures, noise
from gptlab.compare.arms import Arm, arms_of
from gptlab.compare.budget import counts_of
from gptlab.compare.collecting import Conducted, Draw, collect
from gptlab.compare.identity import LENGTH, recipe_identity
from gptlab.compare.jobs import Job
from gptlab.compare.judging import judged
from gptlab.compare.looks import Looks
from gptlab.compare.measuring import measure, refuse_unmeasured
from gptlab.compare.metrics import Metric
from gptlab.compare.reading import read_study
from gptlab.compare.results import NoiseFloor, Results
from gptlab.compare.runner import Runner
from gptlab.compare.study import NOISE, Study
from gptlab.compare.timing import timed
from gptlab.compare.tuning import Tuned, tune
from gptlab.runs.folder import MAX_JSON_BYTES, RunFolder
from gptlab.train.session import Say

RESULTS, STUDY, TEXT = "results.json", "study.yaml", "text.json"


@dataclass(frozen=True)
class How:
    """Where and how a study is run. `report_only`: nothing is run, what is there is read."""

    root: Path = Path("runs")
    studies: Path = Path("studies")
    jobs: int | None = None
    ray: str | None = None
    report_only: bool = False
    command: str = ""

    def folder(self, study: Study) -> Path:
        """Give the folder of a study's results."""
        return self.studies / study.name

    def noise_file(self, recipe: str, identity: str) -> Path:
        """Name the file of a recipe's noise floor."""
        return self.studies / NOISE / f"{recipe}-{identity[:LENGTH]}.json"


def conduct(study: Study, how: How, draw: Draw, say: Say) -> Results:
    """Run what has not been run yet, and write results.json. Raises Stopped after a signal."""
    folder = how.folder(study)
    refuse_another(study, folder)
    Looks.load(folder)  # what cannot be read is said before anything is run
    arms = arms_for(study, how, say, keep=not how.report_only)
    runner = Runner(how.root, folder, say, how.jobs, how.ray)
    if not how.report_only:
        _keep(study, arms, folder)

    def measured(jobs: Sequence[Job], metrics: Sequence[Metric]) -> None:
        if how.report_only:
            refuse_unmeasured(metrics, jobs, how.root)
        else:
            measure(metrics, jobs, how.root)

    def finish(trials: Sequence[Job]) -> None:
        if how.report_only:
            _refuse_missing(trials, how.root, _failed_before(trials, how.root, folder))
        else:
            runner.finish(trials, "tuning", total_flops(report_jobs(study, arms)))
        measured(trials, study.measured_of("tuning"))

    tuned: list[Tuned] = []
    if study.tune:
        tuned = tune(study, study.tune, arms, how.root, finish)
        arms = [each.arm for each in tuned]
    jobs = report_jobs(study, arms)
    failed, notes = runner.failed, list[str]()
    if how.report_only:
        everything = [*jobs, *(job for each in tuned for job in each.jobs)]
        failed = _failed_before(everything, how.root, folder)
        notes += _notes_on_failures(folder)
        _refuse_nothing(jobs, how.root, failed)
    else:
        runner.finish(jobs, "the study")
    measured(jobs, study.metrics)
    if how.report_only:
        _keep(study, arms, folder)
    notes += [*_notes_on_time(study, jobs, how.root), *_notes_on_arms(study, arms)]
    conducted = Conducted(study, how.root, folder, how.command, arms, jobs, tuned, failed, notes)
    collected, floors = collect(conducted, draw), noise_of(arms, how)
    looks = Looks.load(folder)  # only now: another process may have had a look since
    results = judged(collected, floors, looks)
    looks.save(folder)  # first: what is shown has been counted
    results.save(folder / RESULTS)
    return results


def arms_for(study: Study, how: How, say: Say, keep: bool) -> list[Arm]:
    """Make the arms; where they get the same time, measure it, and `keep` what was measured."""
    arms = arms_of(study, say)
    _refuse_another_text(arms, how.folder(study))
    if study.match == "time":
        arms = timed(arms, how.folder(study), say, keep)
    for arm in arms:
        for metric in study.metrics:
            metric.check(arm.recipe, arm.facts)
    return arms


def noise_of(arms: Sequence[Arm], how: How) -> dict[str, NoiseFloor]:
    """Find the noise floor of the reference at every size where `gptlab noise` has measured it."""
    floors = {}
    for arm in arms:
        if arm.reference:
            name = recipe_identity(arm.recipe, arm.facts)
            floors[arm.scale] = noise.load(how.noise_file(arm.recipe.name, name), name)
    return {scale: floor for scale, floor in floors.items() if floor is not None}


def report_jobs(study: Study, arms: Sequence[Arm]) -> list[Job]:
    """Plan the runs that are reported: all arms with one seed, then with the next."""
    return [Job.of(arm, seed, "report") for seed in study.seeds for arm in arms]


def total_flops(jobs: Sequence[Job]) -> float:
    """Add up what training takes."""
    return sum(counts_of(job.recipe).training_flops for job in jobs)


def _notes_on_time(study: Study, jobs: Sequence[Job], root: Path) -> list[str]:
    """Say of how many runs the time was taken beside others, whatever is asked for by now."""
    names = [metric.label for metric in study.metrics if metric.depends_on_time]
    runs = [RunFolder(job.folder(root)) for job in jobs if names]
    beside = sum(_shared_the_machine(run) for run in runs)
    if not beside:
        return []
    return [
        f"{', '.join(names)}: {beside} of {len(jobs)} runs were timed beside others; remove their "
        "folders and use --jobs 1 to time them alone"
    ]


def _shared_the_machine(run: RunFolder) -> bool:
    """Tell whether a run, or a part of it, had only its share of the cores."""
    known = run.environment()
    places = [each["machine"] for each in (known, *known.get("continued", [])) if "machine" in each]
    return any(place["torch"]["threads"] < place["cores"]["usable"] for place in places)


def _keep(study: Study, arms: Sequence[Arm], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(folder / STUDY, study.to_yaml().encode())
    files.replace(folder / TEXT, json.dumps(_texts(arms), indent=1).encode() + b"\n")


def _texts(arms: Sequence[Arm]) -> dict[str, str]:
    """Give the hash of the text at every size, as the base reads it: variants may have others."""
    return {arm.scale: arm.facts.data_sha256 for arm in arms if not arm.variants}


def _failed_before(jobs: Sequence[Job], root: Path, folder: Path) -> dict[str, str]:
    """Read why runs failed that have not ended since."""
    names = {job.folder(root).name for job in jobs if job.state(root) in ("new", "started")}
    return {name: why for name, why in failures.kept(folder)[0].items() if name in names}


def _notes_on_failures(folder: Path) -> list[str]:
    _, damaged = failures.kept(folder)
    return [f"{folder / failures.FAILURES}: {damaged} damaged lines are left out"] * bool(damaged)


def _notes_on_arms(study: Study, arms: Sequence[Arm]) -> list[str]:
    references = {arm.scale: arm for arm in arms if arm.reference}
    return [
        f"{metric.label}: {arm.name} {note}"
        for metric in study.metrics
        for arm in arms
        if not arm.reference and (note := metric.note(arm.recipe, references[arm.scale].recipe))
    ]


def _refuse_nothing(jobs: Sequence[Job], root: Path, failed: dict[str, str]) -> None:
    """Raise ValueError if no run has ended: earlier results would be replaced by none."""
    unknown = [job for job in jobs if job.folder(root).name not in failed]
    if unknown == list(jobs) and all(job.state(root) in ("new", "started") for job in jobs):
        raise ValueError(
            f"--report-only: none of the {len(jobs)} runs is in {root} (gptlab's code or torch may "
            "be another by now, which makes them other runs); run it without --report-only"
        )


def refuse_another(study: Study, folder: Path) -> None:
    """Raise ValueError if the folder has the results of a study that asks something else."""
    if not (folder / STUDY).exists():
        return
    try:
        other = read_study(str(folder / STUDY))
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise _not_told(problem, folder) from None
    if not study.extends(other):
        raise _another("that asks something else", folder)


def _refuse_another_text(arms: Sequence[Arm], folder: Path) -> None:
    """Raise ValueError if the folder has results of another text; where it lies does not matter."""
    try:
        kept = files.read_object(folder / TEXT, MAX_JSON_BYTES)
    except ValueError as error:
        raise _not_told(str(error), folder) from None
    if kept is not None and kept != _texts(arms):
        raise _another("of another text", folder)


def _not_told(problem: str, folder: Path) -> ValueError:
    return ValueError(
        f"{problem}; it tells what the results beside it answer: give this study a name of its "
        f"own, --name NAME, or remove {folder}"
    )


def _another(which: str, folder: Path) -> ValueError:
    return ValueError(
        f"{folder} has the results of a study {which}: give this one a name of its own, "
        f"--name NAME, or remove {folder}"
    )


def _refuse_missing(trials: Sequence[Job], root: Path, failed: dict[str, str]) -> None:
    missing = [
        job.label
        for job in trials
        if job.state(root) in ("new", "started") and job.folder(root).name not in failed
    ]
    if missing:
        raise ValueError(
            f"--report-only: {len(missing)} runs of tuning have not ended yet ({missing[0]}), so "
            "that nobody knows with what the others are to be run; run it without --report-only"
        )
