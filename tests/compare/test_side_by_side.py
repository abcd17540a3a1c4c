"""Runs in processes of their own: killed, interrupted, continued, and on a Ray cluster."""

import os
import random
import signal
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest
from studies import Conduct, MakeRecipe, MakeStudy, timeless

from gptlab.compare.conduct import How
from gptlab.compare.jobs import Ended, Task
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


def test_two_runs_at_once_are_what_they_are_alone(study: MakeStudy, run: Conduct, how: How):
    alone = run(study())
    elsewhere = replace(how, root=how.root.parent / "other", jobs=2)
    assert timeless_but_folders(run(study(), elsewhere)) == timeless_but_folders(alone)


def timeless_but_folders(results: object) -> object:
    tree = timeless(results)
    runs = [{k: v for k, v in each.items() if k != "folder"} for each in tree["runs"]]
    return tree | {"runs": runs, "environment": None}


def test_a_worker_that_dies_takes_one_run_with_it(task: Task, tmp_path: Path):
    processes = Processes(1, tmp_path / "log.txt")
    endless = replace(task, recipe=task.recipe.replace("steps: 40", "steps: 1000000"))
    ended: list[Ended] = []
    for each in processes(deque([endless, replace(task, name="two")]), lambda: False):
        if each is not None:
            ended.append(each)
        elif not ended and (tmp_path / "runs" / "one" / "metrics.jsonl").exists():
            os.kill(children(processes)[0], signal.SIGKILL)
    assert [(each.task.name, each.how) for each in ended] == [("one", "failed"), ("two", "done")]
    assert "exit code -9" in ended[0].problem


def test_workers_save_and_stop_when_asked(task: Task, tmp_path: Path):
    processes = Processes(1, tmp_path / "log.txt")
    endless = replace(task, recipe=task.recipe.replace("steps: 40", "steps: 1000000"))
    begun = tmp_path / "runs" / "one" / "metrics.jsonl"
    ended = [each for each in processes(deque([endless, task]), begun.exists) if each]
    assert [(each.task.name, each.how) for each in ended] == [("one", "stopped")]
    assert "stopped" in (tmp_path / "runs" / "one" / "status.json").read_text()
    assert processes.workers == []


def test_killed_at_random_and_continued_gives_the_same_results(
    study: MakeStudy, run: Conduct, how: How, tmp_path: Path
):
    asked = study("train.steps=60", "train.evaluate_every=20", seeds=(0, 1), match="params")
    whole = run(asked, replace(how, root=tmp_path / "whole"))
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
    assert timeless_but_folders(run(asked)) == timeless_but_folders(whole)


def test_ctrl_c_saves_and_the_same_study_goes_on(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    asked = study("train.steps=30", seeds=(0,))
    whole = run(asked, replace(how, root=how.root.parent / "whole"))
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
    assert timeless_but_folders(run(asked)) == timeless_but_folders(whole)
    assert len(seen) == 90


def test_the_same_runs_on_a_ray_cluster(study: MakeStudy, run: Conduct, how: How):
    pytest.importorskip("ray")
    asked = study(seeds=(0,))
    alone = run(asked, replace(how, root=how.root.parent / "alone"))
    assert timeless_but_folders(run(asked, replace(how, ray="local"))) == timeless_but_folders(
        alone
    )
