"""What is computed of runs that have ended: once, before a document asks for it."""

import time
from collections.abc import Sequence
from pathlib import Path

from gptlab.compare.jobs import Job
from gptlab.compare.metrics import MeasuredRun, Metric
from gptlab.compare.metrics._kept import Kept
from gptlab.compare.runner import Stopped
from gptlab.compare.words import rounded
from gptlab.runs.folder import RunFolder
from gptlab.train.display import Display, duration
from gptlab.train.signals import Signals


class _Values(Display):
    def _head(self) -> str:
        return f"value {min(self.step + 1, self.total_steps):,}/{self.total_steps:,}"


def measure(metrics: Sequence[Metric], jobs: Sequence[Job], root: Path) -> None:
    """Compute what is not there yet; what was computed stays. Raises Stopped after a signal."""
    left, began = _unmeasured(metrics, jobs, root), time.monotonic()
    if not left:
        return
    with Signals() as signals, _Values(len(left)) as display:
        for number, (metric, job) in enumerate(left):
            what = f"{metric.label} of {job.label}"

            def hear(done: int, most: int, number: int = number, what: str = what) -> None:
                if signals.received:
                    raise Stopped(signals.received.name)
                share = done / most
                passed, behind = time.monotonic() - began, number + share
                rest = f"about {duration(passed / behind * (len(left) - behind))} left"
                display.update(number, f"{what}: {share:.0%}", rest)

            value = metric.measure(MeasuredRun.of(RunFolder(job.folder(root))), hear)
            found = metric.lost_means if value is None else f"{rounded(value)} {metric.unit}"
            display.say(f"{what}: {found.rstrip()} · {number + 1}/{len(left)} values")


def refuse_unmeasured(metrics: Sequence[Metric], jobs: Sequence[Job], root: Path) -> None:
    """Raise ValueError if something has not been computed."""
    if left := _unmeasured(metrics, jobs, root):
        metric, job = left[0]
        raise ValueError(
            f"--report-only: {len(left)} values are not computed yet ({metric.label} of "
            f"{job.label}); run it without --report-only"
        )


def _unmeasured(
    metrics: Sequence[Metric], jobs: Sequence[Job], root: Path
) -> list[tuple[Kept, Job]]:
    return [
        (metric, job)
        for metric in metrics
        if isinstance(metric, Kept)
        for job in jobs
        if job.state(root) == "done" and not metric.is_kept(RunFolder(job.folder(root)))
    ]
