"""A study from its declaration to its results."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptlab.compare import failures, noise, notes, question
from gptlab.compare.arms import Arm, arms_of
from gptlab.compare.budget import counts_of
from gptlab.compare.collecting import Conducted, Draw, collect
from gptlab.compare.identity import LENGTH, recipe_identity
from gptlab.compare.jobs import Job
from gptlab.compare.judging import judged
from gptlab.compare.looks import Looks
from gptlab.compare.measuring import measure, refuse_unmeasured
from gptlab.compare.metrics import Metric
from gptlab.compare.results import NoiseFloor, Results
from gptlab.compare.runner import Runner
from gptlab.compare.study import NOISE, Study
from gptlab.compare.timing import timed
from gptlab.compare.tuning import Tuned, tune
from gptlab.train.session import Say

RESULTS = "results.json"


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
    question.refuse_another(study, folder)
    Looks.load(folder)  # what cannot be read is said before anything is run
    arms = arms_for(study, how, say, keep=not how.report_only)
    runner = Runner(how.root, folder, say, how.jobs, how.ray)
    if not how.report_only:
        question.keep(study, arms, folder)

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
    failed, told = runner.failed, list[str]()
    if how.report_only:
        everything = [*jobs, *(job for each in tuned for job in each.jobs)]
        failed = _failed_before(everything, how.root, folder)
        told += notes.on_failures(folder)
        _refuse_nothing(jobs, how.root, failed)
    else:
        runner.finish(jobs, "the study")
    measured(jobs, study.metrics)
    if how.report_only:
        question.keep(study, arms, folder)
    told += [*notes.on_time(study, jobs, how.root), *notes.on_arms(study, arms)]
    conducted = Conducted(study, how.root, folder, how.command, arms, jobs, tuned, failed, told)
    collected, floors = collect(conducted, draw), noise_of(arms, how)
    looks = Looks.load(folder)  # only now: another process may have had a look since
    results = judged(collected, floors, looks)
    looks.save(folder)  # first: what is shown has been counted
    results.save(folder / RESULTS)
    return results


def arms_for(study: Study, how: How, say: Say, keep: bool) -> list[Arm]:
    """Make the arms; where they get the same time, measure it, and `keep` what was measured."""
    arms = arms_of(study, say)
    question.refuse_another_text(arms, how.folder(study))
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


def _failed_before(jobs: Sequence[Job], root: Path, folder: Path) -> dict[str, str]:
    """Read why runs failed that have not ended since."""
    names = {job.folder(root).name for job in jobs if job.state(root) in ("new", "started")}
    return {name: why for name, why in failures.kept(folder)[0].items() if name in names}


def _refuse_nothing(jobs: Sequence[Job], root: Path, failed: dict[str, str]) -> None:
    """Raise ValueError if no run has ended: earlier results would be replaced by none."""
    unknown = [job for job in jobs if job.folder(root).name not in failed]
    if unknown == list(jobs) and all(job.state(root) in ("new", "started") for job in jobs):
        raise ValueError(
            f"--report-only: none of the {len(jobs)} runs is in {root} (gptlab's code or torch may "
            "be another by now, which makes them other runs); run it without --report-only"
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
