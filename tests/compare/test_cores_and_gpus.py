"""How many runs go side by side, with how many threads, on which GPU."""

from collections import deque
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from studies import Conduct, MakeRecipe, MakeStudy

from gptlab import files, machine
from gptlab.compare import gpus, workers
from gptlab.compare.arms import arms_of
from gptlab.compare.conduct import How, report_jobs
from gptlab.compare.jobs import Ended, Task, in_this_process, perform
from gptlab.compare.report.contents import cost_beside
from gptlab.compare.runner import Runner
from gptlab.compare.workers import Processes
from gptlab.runs.folder import RunFolder


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Pretend 8 cores, and note with how many threads each run is run, here."""
    found: dict[str, int] = {}

    def executor(tasks: deque[Task], stop: Any) -> Any:
        for place, task in enumerate(tasks):
            found[task.name] = task.threads
            tasks[place] = replace(task, threads=1)  # there are no eight
        return in_this_process(tasks, stop, lambda text: None)

    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(Runner, "_executor", lambda *arguments: executor)
    return found


def test_a_study_goes_on_with_as_many_threads(
    study: MakeStudy, run: Conduct, how: How, threads: dict[str, int]
):
    asked, machines = study(), replace(how, jobs=None)
    run(asked, machines)
    assert list(threads.values()) == [1] * 6  # eight cores for six runs
    asked = study(name="smaller", seeds=(5,))
    first = run(asked, machines)
    names = [each.folder.rpartition("/")[2] for each in first.runs]
    assert [threads[name] for name in names] == [2] * 3
    for lost in names:
        files.remove(how.root / lost)
        threads.clear()
        run(asked, machines)
        assert threads == {lost: 2}  # not the eight that nobody uses


def test_a_run_has_the_threads_that_were_chosen_and_leaves_them_as_they_were(
    tiny_recipe: MakeRecipe, tmp_path: Path
):
    before = torch.get_num_threads()
    task = Task(str(tmp_path), "one", tiny_recipe().to_yaml(), before + 1, 1.0)
    assert perform(task, lambda text: None).how == "done"
    known = RunFolder(tmp_path / "one").environment()
    assert known["machine"]["torch"]["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_that_runs_were_timed_beside_others_is_told_by_the_runs(
    study: MakeStudy, run: Conduct, how: How, threads: dict[str, int], monkeypatch: Any
):
    asked = study(seeds=(0,), metrics=("bits_per_byte", "tokens_per_second"))
    note = (
        "tokens_per_second: 3 of 3 runs were timed beside others; remove their folders and use "
        "--jobs 1 to time them alone (which makes other results, and so another look)"
    )
    assert note in run(asked, replace(how, jobs=3)).notes
    results = run(asked)  # with --jobs 1, but nothing is timed again
    assert note in results.notes
    assert {cost.timed_beside for cost in results.costs} == {1}
    assert not any("time" in cost_beside(results, found) for found in results.comparisons)
    assert note not in run(study(seeds=(0,))).notes
    files.remove(how.root)
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    run(asked)
    results = run(asked, replace(how, jobs=None, report_only=True))
    assert not any("beside" in each for each in results.notes)
    assert {cost.timed_beside for cost in results.costs} == {0}


def test_memory_that_is_free_decides_on_runs_and_not_on_threads(
    study: MakeStudy, how: How, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(machine, "total_memory", lambda: 2 * 10**12)
    runner = Runner(how.root, how.folder(study()), print)
    jobs = report_jobs(study(), arms_of(study(), print))
    for free, at_once in ((10**12, 6), (1_300_000_000, 2), (1, 1)):
        monkeypatch.setattr(machine, "available_memory", lambda free=free: free)
        assert runner.at_once(jobs, jobs) == at_once
        assert runner.threads(jobs) == 1
        assert runner.at_once(jobs, jobs[:1]) == 1
        assert replace(runner, jobs=4).at_once(jobs, jobs) == 4
        assert replace(runner, jobs=4).threads(jobs[:1]) == 2


@pytest.mark.parametrize(
    ("count", "allowed", "names"),
    [
        (2, None, ["0", "1"]),
        (2, "3,5", ["3", "5"]),
        (2, "GPU-1f0a, GPU-77", ["GPU-1f0a", "GPU-77"]),
        (1, "MIG-GPU-1/2/0", ["MIG-GPU-1/2/0"]),
        (1, "4,-1,5", ["4"]),  # what follows a number that is none is not seen
        (0, "", []),
    ],
)
def test_gpus_have_the_names_that_were_given(count: int, allowed: str | None, names: list[str]):
    assert gpus.names(count, allowed) == names


def test_what_torch_counts_gets_the_names_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    assert gpus.visible() == ["6", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus.visible() == ["0", "1"]


class Pretended:
    """Processes that are never started, of which the last argument is the GPU."""

    Pipe = staticmethod(Pipe)

    class Process:
        def __init__(self, target: object, args: tuple[Any, ...]):
            self.gpu = args[-1]

        def start(self) -> None: ...

        def join(self) -> None: ...

        exitcode = -9


def test_no_two_workers_share_a_gpu_while_there_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(workers, "get_context", lambda how: Pretended)
    processes = Processes(4, tmp_path / "logs", ["3", "GPU-5"])
    added = [processes._add() for _ in range(4)]
    assert [each.process.gpu for each in added] == ["3", "GPU-5"] * 2  # pyright: ignore
    for each in added[2:]:
        processes.workers.remove(each)
    for lost in (added[0], added[1]):
        lost.task = Task("", "", "", 1, 1.0)
        lost.pipe.close()
        assert isinstance(processes._hear(lost, asked=False), Ended)
        assert processes._add().gpu == lost.gpu
    assert sorted(worker.gpu or "" for worker in processes.workers) == ["3", "GPU-5"]
    assert Processes(1, tmp_path / "logs")._add().gpu is None
