"""Brings the runs of a study to their end: what is done stays done, what failed is tried again."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gptlab import machine
from gptlab.compare import failures, gpus
from gptlab.compare.budget import counts_of
from gptlab.compare.jobs import RETRIES, Ended, Executor, Job, Task, in_this_process, located
from gptlab.compare.on_ray import OnRay
from gptlab.compare.progress import Progress
from gptlab.compare.workers import Processes
from gptlab.model.accounting import TRAINING_BYTES
from gptlab.train.session import Say
from gptlab.train.signals import Signals

PROCESS_BYTES = 500_000_000  # of a process that has torch in it, before it does anything
LOGS = "logs"


class Stopped(Exception):
    """A signal asked to stop; everything is saved."""

    def __init__(self, signal_name: str):
        super().__init__(signal_name)
        self.signal_name = signal_name


@dataclass
class Runner:
    """Runs jobs below `root`; what a person may want to read of it goes to `folder`.

    `jobs`: how many at once, null: what the machine can carry. `ray`: the address of a cluster.
    `failed`: what went wrong for good, by the name of the run's folder.
    """

    root: Path
    folder: Path
    say: Say
    jobs: int | None = None
    ray: str | None = None
    failed: dict[str, str] = field(default_factory=dict)

    def finish(self, jobs: Sequence[Job], what: str, later: float = 0.0) -> None:
        """Run what has not ended yet of all these. Raises Stopped after a signal.

        `what` they are for. `later`: FLOPs of what comes after them, for the estimate of time.
        """
        by_name = {job.folder(self.root).name: job for job in jobs}
        states = {name: job.state(self.root) for name, job in by_name.items()}
        waiting = [name for name, state in states.items() if state in ("new", "started")]
        if not waiting:
            return
        all_jobs = list(by_name.values())
        at_once = self.at_once(all_jobs, [by_name[name] for name in waiting])
        threads = self.threads(all_jobs)
        tasks = deque(self._task(by_name[name], name, threads) for name in waiting)
        where = "on Ray" if self.ray else f"{at_once} at once"
        counted = f"{len(all_jobs)} runs, {len(waiting)} of them to be done"
        self.say(f"{what}: {counted}, {where}; threads of each: {threads}")
        self.folder.mkdir(parents=True, exist_ok=True)
        labels = {name: job.label for name, job in by_name.items()}
        progress = Progress(self.root, list(tasks), labels, later, at_once > 1 or bool(self.ray))
        device = by_name[waiting[0]].recipe.train.device
        executor = self._executor(at_once, device, progress.display.say)
        with Signals() as signals, progress:
            self._run(executor, tasks, progress, lambda: signals.received)
        if signals.received:
            raise Stopped(signals.received.name)

    def threads(self, jobs: Sequence[Job]) -> int:
        """Give a run its share of the cores, by all runs of a study, those that have ended too.

        With other threads sums are rounded otherwise: what goes on has as many as it began with.
        """
        return max(1, machine.usable_cores() // self._side_by_side(jobs, machine.total_memory()))

    def at_once(self, jobs: Sequence[Job], waiting: Sequence[Job]) -> int:
        """Tell how many go side by side of those that wait, with the memory that is free now."""
        free = machine.available_memory() or machine.total_memory()
        planned = self._side_by_side(jobs, machine.total_memory())
        return min(planned, self._side_by_side(waiting, free), len(waiting))

    def _side_by_side(self, jobs: Sequence[Job], memory: int) -> int:
        if self.jobs is not None:
            return self.jobs
        if jobs[0].recipe.train.device == "cuda":
            return max(1, min(len(jobs), len(gpus.visible())))
        needed = max(counts_of(job.recipe).parameters for job in jobs) * TRAINING_BYTES
        carried = int(memory / (3 * needed + PROCESS_BYTES))  # activations are about as much again
        return max(1, min(len(jobs), machine.usable_cores(), carried))

    def _task(self, job: Job, name: str, threads: int) -> Task:
        flops = counts_of(job.recipe).training_flops
        return Task(str(self.root.absolute()), name, job.recipe.to_yaml(), threads, flops)

    def _executor(self, at_once: int, device: str, say_above: Say) -> Executor:
        """Choose who runs them; `say_above`: above what shows how far they are."""
        if self.ray is not None:
            return OnRay(self.ray, device == "cuda", say_above)
        if at_once == 1:
            return lambda tasks, stop: in_this_process(tasks, stop, self.say)
        return Processes(at_once, self.folder / LOGS, gpus.visible() if device == "cuda" else [])

    def _run(
        self,
        executor: Executor,
        tasks: deque[Task],
        progress: Progress,
        stop: Callable[[], object],
    ) -> None:
        for ended in executor(tasks, stop):
            if ended is None:
                progress.tick()
            elif ended.how == "stopped":
                if ended.problem and not stop():  # it heard a signal that we did not
                    raise Stopped(ended.problem)
            elif ended.how == "failed":
                self._fail(ended, tasks, progress)
            elif ended.how == "taken":
                progress.waits(ended)
                tasks.append(ended.task)  # after those that nobody has
            else:
                progress.ended(ended)

    def _fail(self, ended: Ended, tasks: deque[Task], progress: Progress) -> None:
        task = ended.task
        name = located(self.root, task.name).name  # that is what a report looks for
        failure = failures.keep(replace(ended, task=replace(task, name=name)), self.folder)
        again = task.attempt <= RETRIES
        progress.failed(ended, again)
        if again:
            tasks.append(replace(task, attempt=task.attempt + 1))
        else:
            self.failed[name] = failure.text
