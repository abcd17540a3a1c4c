"""The process in which one contestant works. It is run as a script and talks in lines of JSON.

It imports nothing of gptlab's itself, so that any interpreter that has what the contestant needs
can run it. First comes a job, then a line for each stretch of work, and an empty line at the end.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

LOSS_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # whose losses are told


class Over(BaseException):
    """Nothing more is wanted; no contestant catches this."""


class Beat:
    """What a contestant calls after each piece of work: here it waits while others work."""

    def __init__(
        self,
        commands: TextIO,
        reply: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.commands, self.reply, self.clock = commands, reply, clock
        self.memory_at_start = memory()[0]
        self.calls = self.calls_in_all = 0
        self.losses: dict[int, float] = {}
        self.began = self.end = 0.0
        self.least = 1

    def ready(self, amount: float, **facts: Any) -> None:
        """Say that work may begin. `amount`: of the unit, done by each call; `facts` are kept."""
        facts.pop("score", None)
        forget_peak()
        self.reply({"ready": facts | {"amount": amount}})
        self._wait()

    def __call__(self, loss: Callable[[], float] | None = None) -> None:
        """Note a piece of work. `loss` gives its loss, and is asked at a few steps only."""
        self.calls += 1
        self.calls_in_all += 1
        if loss is not None and self.calls_in_all in LOSS_STEPS:
            self.losses[self.calls_in_all] = loss()
        if self.calls >= self.least and self.clock() >= self.end:
            synchronize()
            seconds = self.clock() - self.began
            peak = device_memory() or memory()[1] - self.memory_at_start
            told = {"calls": self.calls, "seconds": seconds, "peak": peak}
            self.reply(told | {"losses": self.losses})
            self._wait()

    def _wait(self) -> None:
        line = self.commands.readline().strip()
        if not line:  # or whoever asked is gone
            raise Over
        command = json.loads(line)
        self.calls, self.least = 0, command["least"]
        self.began = self.clock()
        self.end = self.began + command["seconds"]


class Race(Beat):
    """A whole run is let go, and its validation loss is taken now and then while the clock stands.

    Seconds count from when the process was asked for: the interpreter's start and all imports are
    in them.
    """

    def __init__(self, *arguments: Any, started: float, every: int):
        super().__init__(*arguments)
        self.before = time.time() - started - self.clock()  # add the clock: seconds since then
        self.every = every
        self.curve: list[tuple[int, float, float]] = []

    def ready(self, amount: float, **facts: Any) -> None:
        """Go on at once. The fact `score` computes the validation loss."""
        self.score: Callable[[], float] = facts.pop("score")
        self.reply({"ready": facts | {"amount": amount}})

    def __call__(self, loss: Callable[[], float] | None = None) -> None:
        self.calls_in_all += 1
        if self.calls_in_all % self.every == 0:
            self._look()

    def finish(self) -> None:
        """Tell how the run went, once it is over."""
        whole = self.before + self.clock()
        if not self.curve or self.curve[-1][0] != self.calls_in_all:
            self._look()
        self.reply({"curve": self.curve, "whole": whole})

    def _look(self) -> None:
        synchronize()
        stopped = self.clock()
        self.curve.append((self.calls_in_all, self.before + stopped, self.score()))
        self.before -= self.clock() - stopped


def memory() -> tuple[int, int]:
    """Bytes of main memory that this process holds, and the most it has ever held; 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    fields = dict(line.split(":", 1) for line in lines)
    held, most = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return held, most


def forget_peak() -> None:
    """Let the most that is held be counted from here on: preparing is not what is measured."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if gpu := gpu_in_use():
        gpu.reset_peak_memory_stats()


def device_memory() -> int:
    """Bytes of a GPU's memory that tensors of this process took at most; 0 without a GPU."""
    gpu = gpu_in_use()
    return gpu.max_memory_allocated() if gpu else 0


def synchronize() -> None:
    """Wait for a GPU."""
    if gpu := gpu_in_use():
        gpu.synchronize()


def gpu_in_use() -> Any:
    """Give `torch.cuda` if this process works with it, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def work(job: dict[str, Any], commands: TextIO, reply: Callable[[dict[str, Any]], None]) -> None:
    """Let the contestant of this job work until nothing more is wanted."""
    try:
        module = import_module(f"gptlab.bench.contestants.{job['contestant']}")
        function = getattr(module, job["work"], None)
        if function is None:
            reply({"absent": job["work"]})
            return
        race = job.get("race")
        beat = Race(commands, reply, **race) if race else Beat(commands, reply)
        function(job, beat)
        if isinstance(beat, Race):
            beat.finish()
    except Over:
        pass
    except ModuleNotFoundError as error:
        reply({"missing": str(error.name)})
    except Exception as error:  # whatever a contestant throws, one line tells it
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reply({"failed": " ".join(f"{kind}{error}".split())[:500]})


def main() -> None:
    if find_spec("gptlab") is None:  # another's interpreter: this package, and nothing beside it
        package = ModuleType("gptlab")
        package.__path__ = [str(Path(__file__).parent.parent)]
        sys.modules["gptlab"] = package
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a contestant prints is not an answer

    def reply(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=replies, flush=True)

    work(json.loads(sys.stdin.readline()), sys.stdin, reply)


if __name__ == "__main__":
    main()
