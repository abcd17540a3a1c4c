"""How far the runs of a study are, and how long the rest will take."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from gptlab.compare.jobs import Ended, Task, located
from gptlab.plain_yaml import load_yaml
from gptlab.runs.folder import RunFolder
from gptlab.train.display import PLAIN_SECONDS, Display, duration

TAIL = 4_096  # bytes: the last line of metrics is in them


class _Runs(Display):
    def _head(self) -> str:
        return f"run {min(self.step + 1, self.total_steps):,}/{self.total_steps:,}"


class Progress:
    """Counts FLOPs done against FLOPs to do; `live`: no run has a display of its own."""

    def __init__(
        self, root: Path, tasks: Sequence[Task], labels: dict[str, str], later: float, live: bool
    ):
        self.root, self.labels, self.live = root, labels, live
        self.tasks = {task.name: task for task in tasks}
        self.steps = {task.name: _planned_steps(task) for task in tasks}
        self.all = sum(task.flops for task in tasks) + later
        self.over: set[str] = set()
        self.awaited: dict[str, float] = {}  # when it was told last
        self.display = _Runs(len(tasks))
        self.began, self.before = time.monotonic(), self.done()

    def __enter__(self) -> Self:
        if self.live:
            self.display.__enter__()
        else:
            self._announce()
        return self

    def __exit__(self, *exception: object) -> None:
        self.display.__exit__(*exception)

    def done(self) -> float:
        """Count the FLOPs that are done, of all runs here."""
        return sum(task.flops * self.fraction(name) for name, task in self.tasks.items())

    def fraction(self, name: str) -> float:
        """Tell how much of a run is done, by the last line of its metrics."""
        if name in self.over:
            return 1.0
        return min(1.0, last_step(located(self.root, name)) / self.steps[name])

    def tick(self) -> None:
        """Show where the runs are."""
        running = [
            f"{self.labels[name]} {part:.0%}"
            for name in self.tasks
            if name not in self.over and (part := self.fraction(name)) > 0
        ]
        self.display.update(len(self.over), " · ".join(running) or "starting", self._left())

    def ended(self, ended: Ended) -> None:
        """Say that a run has ended, and how."""
        name = ended.task.name
        self.over.add(name)
        last = RunFolder(located(self.root, name)).evaluations()[-1:]
        found = [f"{line['bits_per_byte']:.4f} bits/byte" for line in last]
        how = "diverged" if ended.how == "diverged" else (found or ["done"])[0]
        self.display.say(
            f"{self.labels[name]}: {how} · {len(self.over)}/{len(self.tasks)} runs · {self._left()}"
        )
        if not self.live:
            self._announce()

    def waits(self, ended: Ended) -> None:
        """Say now and then that a run is another process's, which is waited for."""
        name, now = ended.task.name, time.monotonic()
        if now - self.awaited.get(name, -PLAIN_SECONDS) >= PLAIN_SECONDS:
            self.awaited[name] = now
            label, part = self.labels[name], self.fraction(name)
            self.display.say(f"{label}: waiting for another process, which has done {part:.0%}")

    def failed(self, ended: Ended, again: bool) -> None:
        """Say that a run failed, and what comes of it."""
        what = "it is tried again" if again else "it is left out"
        self.display.say(f"{self.labels[ended.task.name]} failed: {ended.problem}; {what}")

    def _announce(self) -> None:
        coming = next((name for name in self.tasks if name not in self.over), None)
        if coming is not None:
            self.display.say(f"run {len(self.over) + 1}/{len(self.tasks)}: {self.labels[coming]}")

    def _left(self) -> str:
        done = self.done()
        if done <= self.before:
            return "estimating"
        rate = (done - self.before) / (time.monotonic() - self.began)
        return f"about {duration((self.all - done) / rate)} left"


def last_step(path: Path) -> int:
    """Read the step of the last whole line of a run's metrics; 0 if there is none."""
    with suppress(OSError), (path / "metrics.jsonl").open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        for line in reversed(file.read().splitlines()):
            with suppress(ValueError, AttributeError, TypeError):
                step: Any = json.loads(line).get("step")
                return int(step)
    return 0


def _planned_steps(task: Task) -> int:
    return load_yaml(task.recipe)["train"]["steps"]
