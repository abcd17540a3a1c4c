"""Runs in processes of their own: killed, interrupted, continued, and on a Ray cluster."""

import json
import os
import random
import re
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import Conduct, MakeRecipe, MakeStudy, timeless

from gptlab import machine
from gptlab.compare import workers
from gptlab.compare.conduct import How
from gptlab.compare.jobs import Ended, Task
from gptlab.compare.on_ray import OnRay
from gptlab.compare.progress import Progress
from gptlab.compare.runner import Stopped
from gptlab.compare.workers import Processes
from gptlab.train import loop

pytestmark = pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs POSIX signals")


@pytest.fixture
def task(tiny_recipe: MakeRecipe, tmp_path: Path) -> Task:
    recipe = tiny_recipe("train.steps=40", "train.tensorboard=false", "train.sample_tokens=0")
    return Task(str(tmp_path / "runs"), "one", recipe.to_yaml(), 1, 1.0)


def children(processes: Processes) -> list[int]:
    return [worker.process.pid or 0 for worker in processes.workers]


def elsewhere(how: How, name: str, jobs: int = 1) -> How:
    """Conduct it in another folder, with the same paths in it."""
    folder = how.root.parent / name
    return replace(how, root=folder / "runs", studies=folder / "studies", jobs=jobs)


def document(how: How) -> object:
    """Read results.json, but for times, and for the cores that these tests pretend."""
    (file,) = how.studies.glob("*/results.json")
    tree = timeless(json.loads(file.read_text()))
    del tree["environment"]["machine"]["cores"]
    tree["environment"].pop("continued", None)  # with other cores
    return tree


def test_two_runs_at_once_are_what_they_are_alone(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    """Two cores for two workers, or one for this process: a thread for each run."""
    run(study(), how)
    busy: list[tuple[int, ...]] = []
    hear = Processes._hear

    def spy(self: Processes, *rest: Any) -> Ended:
        busy.append(tuple(worker.process.pid or 0 for worker in self._busy()))
        return hear(self, *rest)

    monkeypatch.setattr(Processes, "_hear", spy)
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    both = elsewhere(how, "both", jobs=2)
    run(study(), both)
    assert {len(pids) for pids in busy[:-1]} == {2}
    assert len({*busy[0]} - {os.getpid()}) == 2
    assert document(both) == document(how)


def test_a_worker_that_dies_takes_one_run_with_it(task: Task, tmp_path: Path):
    processes = Processes(1, tmp_path / "logs")
    endless = replace(task, recipe=task.recipe.replace("steps: 40", "steps: 1000000"))
    ended: list[Ended] = []
    for each in processes(deque([endless, replace(task, name="two")]), lambda: False):
        if each is not None:
            ended.append(each)
        elif not ended and (tmp_path / "runs" / "one" / "metrics.jsonl").exists():
            os.kill(children(processes)[0], signal.SIGKILL)
    assert [(each.task.name, each.how) for each in ended] == [("one", "failed"), ("two", "done")]
    assert "exit code -9" in ended[0].problem
    logs = {file.name: file.read_text() for file in (tmp_path / "logs").iterdir()}
    assert {name: "step 40/40" in text for name, text in logs.items()} == {
        "one.txt": False,
        "two.txt": True,
    }
    assert all(text.count("reading the text") == 1 for text in logs.values())


def test_workers_save_and_stop_when_asked(task: Task, tmp_path: Path):
    processes = Processes(1, tmp_path / "logs")
    endless = replace(task, recipe=task.recipe.replace("steps: 40", "steps: 1000000"))
    begun = tmp_path / "runs" / "one" / "metrics.jsonl"
    ended = [each for each in processes(deque([endless, task]), begun.exists) if each]
    assert [(each.task.name, each.how) for each in ended] == [("one", "stopped")]
    assert "stopped" in (tmp_path / "runs" / "one" / "status.json").read_text()
    assert processes.workers == []


def test_killed_at_random_and_continued_gives_the_same_results(
    study: MakeStudy, run: Conduct, how: How
):
    asked = study("train.steps=60", "train.evaluate_every=20", seeds=(0, 1), match="params")
    whole = elsewhere(how, "whole")
    run(asked, whole)
    draw, kills = random.Random(3), 0
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os.setsid()
            run(asked)
            os._exit(0)
        time.sleep(draw.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert kills
    run(asked)
    assert document(how) == document(whole)


@pytest.mark.slow
def test_killed_with_workers_and_tuning_and_continued_gives_the_same_results(
    study: MakeStudy, run: Conduct, how: How
):
    """Workers outlive who started them for a moment, in which they save: they are waited for."""
    asked = study(
        "train.steps=60",
        "train.evaluate_every=30",
        seeds=(0, 1),
        variants={"rope": "model.positions=rotary"},
        tune={"lr": [1e-3, 4e-3], "extensions": 1},
    )
    whole, draw = elsewhere(how, "whole"), random.Random(5)
    run(asked, whole)
    for folders in (2, 6):
        child = os.fork()
        if child == 0:
            os.setsid()
            run(asked, replace(how, jobs=2))
            os._exit(0)
        while len(list(how.root.glob("*/metrics.jsonl"))) < folders:
            time.sleep(0.01)
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(draw.uniform(0.0, 0.3))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert run(asked).tuning[0].extended
    assert not (how.folder(asked) / "failures.jsonl").exists()
    assert document(how) == document(whole)


def test_ctrl_c_saves_and_the_same_study_goes_on(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    asked, whole = study("train.steps=30", seeds=(0,)), elsewhere(how, "whole")
    run(asked, whole)
    step, seen = loop.take_step, []

    def interrupted(session: object) -> None:
        seen.append(session)
        step(session)  # pyright: ignore[reportArgumentType]
        if len(seen) == 40:  # in the second run
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "take_step", interrupted)
    with pytest.raises(Stopped, match="SIGINT"):
        run(asked)
    assert len(seen) == 40
    (config,) = how.root.glob("rope-s0-*/config.yaml")
    text = config.read_text()
    config.write_text(text.replace("lr: 0.002", "lr: 0.003"))
    with pytest.raises(ValueError, match=r"config\.yaml was changed by hand"):
        run(asked)
    config.write_text(text)
    run(asked)
    assert document(how) == document(whole)
    assert len(seen) == 90


def test_ctrl_c_stops_the_workers_and_the_same_study_goes_on(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    longer = ("train.steps=400", "train.evaluate_every=400", "train.checkpoint_every=100")
    asked, whole = study(*longer, seeds=(0,)), elsewhere(how, "whole")
    tick, beside = Progress.tick, replace(how, jobs=2)

    def interrupted(self: Progress) -> None:
        tick(self)
        if any(self.fraction(name) for name in self.tasks):
            monkeypatch.setattr(Progress, "tick", tick)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "tick", interrupted)
    with pytest.raises(Stopped, match="SIGINT"):
        run(asked, beside)
    assert not (how.folder(asked) / "results.json").exists()
    assert not (how.folder(asked) / "failures.jsonl").exists()
    run(asked)
    run(asked, whole)
    assert document(how) == document(whole)


def test_a_worker_that_is_gone_when_it_is_asked_to_stop_has_not_failed(task: Task, tmp_path: Path):
    processes = Processes(1, tmp_path / "logs")
    endless = replace(task, recipe=task.recipe.replace("steps: 40", "steps: 1000000"))

    def killed() -> bool:
        if not (tmp_path / "runs" / "one" / "metrics.jsonl").exists():
            return False
        os.kill(children(processes)[0], signal.SIGKILL)
        return True

    ended = [each for each in processes(deque([endless]), killed) if each]
    assert [(each.how, each.problem) for each in ended] == [("stopped", "")]


def test_the_same_runs_on_a_ray_cluster(study: MakeStudy, run: Conduct, how: How):
    pytest.importorskip("ray")
    asked = study(seeds=(0,))
    alone = elsewhere(how, "alone")
    run(asked, alone)
    run(asked, replace(how, ray="local"))
    assert document(how) == document(alone)


def test_what_no_node_of_a_cluster_has_is_refused_with_a_remedy_that_helps(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    """Ray would wait for such a node for ever."""
    pytest.importorskip("ray")
    monkeypatch.setattr(machine, "usable_cores", lambda: 4096)
    with pytest.raises(ValueError, match=r"^--ray=local: a run asks for 4096 CPUs") as mistake:
        run(study(seeds=(0,)), replace(how, jobs=1, ray="local"))
    most, jobs = map(int, re.findall(r"cluster has (\d+): use --jobs (\d+)", str(mistake.value))[0])
    assert 4096 // jobs <= most < 4096 // (jobs - 1)
    assert not how.root.exists()


def test_a_node_that_is_down_or_has_no_gpu_does_not_count(task: Task):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 1.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}},
    ]
    two, said = replace(task, threads=2), list[str]()
    cpus, gpus = (OnRay("local", gpu, said.append) for gpu in (False, True))
    cpus._tell_what_waits(nodes, two)
    gpus._tell_what_waits(nodes, task)
    with pytest.raises(ValueError, match=r"asks for 2 CPUs.* largest node of the cluster has 1: "):
        gpus._tell_what_waits(nodes, two)
    with pytest.raises(ValueError, match="takes a GPU and a CPU, and no node"):
        gpus._tell_what_waits(nodes[::2], task)
    assert not said


def test_a_cluster_that_may_grow_is_waited_for(task: Task):
    said: list[str] = []
    head = [{"Alive": True, "Resources": {"CPU": 0.0}}]
    OnRay("auto", False, said.append)._tell_what_waits(head, task)
    assert said == [
        "--ray=auto: a run takes a CPU, and no node of the cluster has that to give: add one that "
        "has; until then runs wait"
    ]


def test_what_was_printed_before_is_not_in_the_file_of_a_run(tmp_path: Path):
    child = os.fork()
    if child == 0:
        with open(1, "w", closefd=False) as sys.stdout:
            workers._print_into(tmp_path / "one")
            print("one")
            workers._print_into(tmp_path / "two")
            print("two")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "one": "one\n",
        "two": "two\n",
    }


def test_a_run_that_has_nowhere_to_print_says_why_it_failed(task: Task, tmp_path: Path):
    (tmp_path / "logs").touch()
    (ended,) = filter(None, Processes(1, tmp_path / "logs")(deque([task]), lambda: False))
    assert (ended.how, ended.problem) == (
        "failed",
        f"{tmp_path / 'logs' / 'one.txt'} could not be written: File exists",
    )
