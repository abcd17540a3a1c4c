"""Runs side by side in processes of this machine.

A worker that dies takes one run with it, which is done again. Workers belong to no terminal, so
that Ctrl-C reaches whoever started them, who asks them to save and stop; they do the same when
nobody is there any more.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from gptlab import files
from gptlab.compare.gpus import VARIABLE, least_used
from gptlab.compare.jobs import Ended, Stop, Task, perform

TICK = 0.5  # seconds between two looks at how far the runs are


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    gpu: str | None
    task: Task | None = None


class Processes:
    """So many workers, at most; `logs` gets a file for each run, each has one of the `gpus`."""

    def __init__(self, jobs: int, logs: Path, gpus: Sequence[str] = ()):
        self.jobs, self.logs, self.gpus = jobs, logs, gpus
        self.workers: list[_Worker] = []

    def __call__(self, tasks: deque[Task], stop: Stop) -> Iterator[Ended | None]:
        """Do tasks until none is left; further ones may be added on the way."""
        asked = False
        try:
            while tasks or self._busy():
                if stop() and not asked:
                    asked = True
                    self._ask_to_stop()
                if asked and not self._busy():
                    return
                if not asked:
                    self._share_out(tasks)
                ready = wait([worker.pipe for worker in self._busy()], TICK)
                if not ready:
                    yield None
                for worker in [worker for worker in self._busy() if worker.pipe in ready]:
                    yield self._hear(worker, asked)
        finally:
            self._end()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.task is not None]

    def _share_out(self, tasks: deque[Task]) -> None:
        while tasks and len(self._busy()) < self.jobs:
            idle = next((worker for worker in self.workers if worker.task is None), None)
            worker = idle or self._add()
            worker.task = tasks.popleft()
            worker.pipe.send(worker.task)

    def _add(self) -> _Worker:
        context = get_context("spawn")
        pipe, theirs = context.Pipe()
        taken = [worker.gpu for worker in self.workers]
        gpu = least_used(self.gpus, taken) if self.gpus else None
        process = context.Process(target=_serve, args=(theirs, str(self.logs), gpu))
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, pipe, gpu))
        return self.workers[-1]

    def _hear(self, worker: _Worker, asked: bool) -> Ended:
        task, worker.task = worker.task, None
        assert task is not None
        try:
            return worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            self.workers.remove(worker)
            if asked:
                return Ended(task, "stopped")
            code = worker.process.exitcode
            return Ended(task, "failed", f"its process died (exit code {code})")

    def _ask_to_stop(self) -> None:
        for worker in self._busy():
            worker.process.terminate()

    def _end(self) -> None:
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()
        self.workers.clear()


def _serve(pipe: Connection, logs: str, gpu: str | None) -> None:
    """What a worker does: tasks, until the other end of the pipe is closed."""
    if hasattr(os, "setsid"):
        os.setsid()
    if gpu is not None:
        os.environ[VARIABLE] = gpu
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = pipe.recv()
            with _Orphaned(pipe):
                ended = _performed(task, Path(logs) / f"{task.name}.txt")
            pipe.send(ended)


def _performed(task: Task, log: Path) -> Ended:
    try:
        _print_into(log)
    except OSError as error:
        return Ended(task, "failed", f"{log} could not be written: {files.reason(error)}")
    return perform(task, _print)


class _Orphaned:
    """While a task runs, nothing is sent: what can be read from the pipe is its end."""

    def __init__(self, pipe: Connection):
        self.pipe, self.over = pipe, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(TICK):
            if self.pipe.poll():
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _print_into(file: Path) -> None:
    """Let a file get all that is printed from here on, of libraries too; what is in it stays."""
    file.parent.mkdir(exist_ok=True)
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what was printed before belongs elsewhere
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
