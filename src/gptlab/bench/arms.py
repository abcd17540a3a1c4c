"""Arms: what is measured, each in a worker's process, and how they are asked to work."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Self

from gptlab.bench import contestants
from gptlab.config import nearest

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 10.0  # seconds that a worker has to end by itself
WARM_UP_CALLS = 2  # pieces of work, at least


@dataclass(frozen=True)
class Arm:
    """A contestant with its work. `label`: how tables call it; `python`: who runs it."""

    label: str
    contestant: str
    job: dict[str, Any]
    python: str = sys.executable


@dataclass
class Section:
    """A stretch of work: so much of the unit, in so many seconds."""

    amount: float
    seconds: float

    @property
    def speed(self) -> float:
        """How much of the unit a second brings."""
        return self.amount / self.seconds


class Worker:
    """An arm at work. `facts`: what it says of itself; `losses`: by step; `peak`: bytes."""

    def __init__(self, arm: Arm, work: str, threads: int | None):
        self.arm, self.work = arm, work
        self.facts: dict[str, Any] = {}
        self.losses: dict[str, float] = {}
        self.peak = 0
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the worker
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "true"}
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [arm.python, "-P", "-W", "ignore", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            env=environment,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for whoever asked
        )
        self._send(arm.job | {"contestant": arm.contestant, "work": work})

    def open(self) -> Self:
        """Wait until it is ready. Raises ValueError, in one line, if it cannot take part."""
        self.facts = self._answer()["ready"]
        return self

    def section(self, seconds: float, least: int = 1) -> Section:
        """Let it work for so many seconds, and for at least so many pieces of work."""
        self._send({"seconds": seconds, "least": least})
        told = self._answer()
        self.losses, self.peak = told["losses"], told["peak"]
        return Section(told["calls"] * self.facts["amount"], told["seconds"])

    def warm_up(self, seconds: float) -> None:
        """Let it work where nothing is measured."""
        self.section(seconds, WARM_UP_CALLS)

    def race(self) -> dict[str, Any]:
        """Wait for a whole run: its `curve` of step, seconds and loss, and its `whole` seconds."""
        return self._answer()

    def close(self, is_polite: bool = True) -> None:
        """End it, politely first; at once where whoever asked will not wait (Ctrl-C again)."""
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()
        try:
            if is_polite:
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()
            self.messages.close()

    def _send(self, command: dict[str, Any]) -> None:
        assert self.process.stdin
        with suppress(BrokenPipeError):  # then there is no answer either
            print(json.dumps(command), file=self.process.stdin, flush=True)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"{self.arm.label} died: {self._last_words()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise ValueError(_how_to_get(answer["missing"], self.arm))
        if "absent" in answer:
            raise ValueError(f"--against {self.arm.label} does not take part in bench {self.work}")
        if "failed" in answer:
            raise ValueError(f"{self.arm.label}: {answer['failed']}")
        return answer

    def _last_words(self) -> str:
        self.process.wait()
        if self.process.returncode == -signal.SIGKILL:
            return "killed, perhaps for want of memory: take fewer arms or a smaller batch"
        self.messages.seek(0)
        lines = self.messages.read().decode("utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else f"exit code {self.process.returncode}"


class Apart:
    """An arm that has a new process in every turn, so that no two arms hold memory at once.

    What it holds besides is as a `Worker` has it; `peak`: the most in any turn.
    """

    def __init__(self, arm: Arm, work: str, threads: int | None):
        self.arm, self.work, self.threads = arm, work, threads
        self.facts: dict[str, Any] = {}
        self.losses: dict[str, float] = {}
        self.peak = self.turns = 0

    def warm_up(self, seconds: float) -> None:
        """Do nothing: each turn begins with a piece of work that is not timed."""

    def section(self, seconds: float, least: int = 1) -> Section:
        """Start a process, let it work, and end it."""
        folder = Path(self.arm.job["folder"], f"turn-{self.turns}")
        folder.mkdir()
        arm = replace(self.arm, job=self.arm.job | {"folder": str(folder)})
        worker = Worker(arm, self.work, self.threads)
        try:
            self.facts = worker.open().facts
            worker.section(0.0)
            section = worker.section(seconds, least)
        finally:
            worker.close()
        self.turns += 1
        self.losses, self.peak = worker.losses, max(self.peak, worker.peak)
        return section


@dataclass
class Workers:
    """All arms of a measurement at work; they end with this context.

    They begin one after the other: what one finds out about the machine, such as whether bfloat16
    pays, it finds out alone.
    """

    arms: Sequence[Arm]
    work: str
    threads: int | None
    open: list[Worker] = field(default_factory=list)

    def __enter__(self) -> list[Worker]:
        try:
            for arm in self.arms:
                self.open.append(Worker(arm, self.work, self.threads))
                self.open[-1].open()
        except BaseException:
            self.__exit__()
            raise
        return self.open

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as ends:
            for worker in self.open:
                ends.callback(worker.close)


def raced(arm: Arm, threads: int | None, every: int) -> tuple[Worker, dict[str, Any]]:
    """Let an arm run from its process's start to its end; see `worker.Race`."""
    race = {"started": time.time(), "every": every}
    job = arm.job | {"race": race}
    worker = Worker(Arm(arm.label, arm.contestant, job, arm.python), "train", threads)
    try:
        curve = worker.open().race()
    except BaseException:
        worker.close(is_polite=False)  # it would go on to its end
        raise
    worker.close()
    return worker, curve


def find_contestant(name: str) -> str:
    """Find the file of a peer; ValueError with the nearest name if there is none."""
    known = [each for each in peers() if each == name]
    if not known:
        raise ValueError(
            f"--against {name}: nobody of that name{nearest(name, peers())} "
            f"(there are: {', '.join(peers())})"
        )
    return name.replace("-", "_")


def peers() -> list[str]:
    """Name everyone whom gptlab can be measured against."""
    files = (file.name for file in iter_modules(contestants.__path__))
    return [name.replace("_", "-") for name in files if name != "gptlab" and name[0] != "_"]


def _how_to_get(package: str, arm: Arm) -> str:
    name = package.partition(".")[0]
    if arm.python != sys.executable:
        return f"{arm.label} needs {name}, which {arm.python} does not have"
    return (
        f"--against {arm.label} needs {name}, which is not installed: pip install 'gptlab[bench]'"
    )
