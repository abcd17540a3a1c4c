"""Runs on a Ray cluster whose machines see the same files under the same paths (extra: ray)."""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from gptlab import machine
from gptlab.compare.jobs import Ended, Stop, Task, perform
from gptlab.compare.workers import TICK
from gptlab.data.extras import needed
from gptlab.train.session import Say


class OnRay:
    """`address`: of a cluster, or `local`. `gpu`: whether each run takes one."""

    def __init__(self, address: str, gpu: bool, say: Say):
        self.address, self.gpu, self.say = address, gpu, say

    def __call__(self, tasks: deque[Task], stop: Stop) -> Iterator[Ended | None]:
        """Do tasks until none is left; further ones may be added on the way."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = needed("ray", "ray", f"--ray={self.address}")
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(self.address, include_dashboard=False if self.address == "local" else None)
        except (ConnectionError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"--ray={self.address}: no such cluster: {reason}") from None
        try:
            _restore(before)
            self._tell_what_waits(ray.nodes(), tasks[0])
            yield from self._share_out(ray, tasks, stop)
        finally:
            ray.shutdown()
            _restore(before)

    def _tell_what_waits(self, nodes: list[dict[str, Any]], task: Task) -> None:
        """Say what no node has for a run. Raises ValueError where none will ever have it."""
        lacking = self._lacking(nodes, task)
        if lacking and self.address == "local":
            raise ValueError(lacking)
        if lacking:  # other clusters may grow
            self.say(f"{lacking}; until then runs wait")

    def _lacking(self, nodes: list[dict[str, Any]], task: Task) -> str:
        """Say what a run asks for and no node of the cluster has, if so."""
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        fitting = [each for each in alive if each.get("GPU", 0) >= int(self.gpu)]
        most = int(max((each.get("CPU", 0) for each in fitting), default=0))
        if not most:
            wanted = "a GPU and a CPU" if self.gpu else "a CPU"
            return (
                f"--ray={self.address}: a run takes {wanted}, and no node of the cluster has that "
                "to give: add one that has"
            )
        if task.threads > most:
            cores = machine.usable_cores()
            return (
                f"--ray={self.address}: a run asks for {task.threads} CPUs, its share of the "
                f"{cores} of this machine, and the largest node of the cluster has {most}: use "
                f"--jobs {cores // (most + 1) + 1}, so that each asks for fewer"
            )
        return ""

    def _share_out(self, ray: Any, tasks: deque[Task], stop: Stop) -> Iterator[Ended | None]:
        running: dict[Any, Task] = {}
        asked = False
        while running or (tasks and not asked):
            if stop() and not asked:
                asked = True
                for reference in running:
                    ray.cancel(reference)
            while tasks and not asked:
                task = tasks.popleft()
                remote = ray.remote(num_cpus=task.threads, num_gpus=int(self.gpu), max_retries=0)(
                    _perform
                )
                running[remote.remote(task, os.getcwd())] = task
            done, _ = ray.wait(list(running), timeout=TICK)
            if not done:
                yield None
            for reference in done:
                yield _result(ray, reference, running.pop(reference), asked)


def _result(ray: Any, reference: Any, task: Task, asked: bool) -> Ended:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        if asked:
            return Ended(task, "stopped")
        return Ended(task, "failed", " ".join(str(error).split())[-500:])


def _perform(task: Task, folder: str) -> Ended:
    os.chdir(folder)  # where texts are looked for
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return perform(task, print)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    """Ray takes signals, and would keep them."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in handlers.items():
        if handler is not None:
            signal.signal(number, handler)
