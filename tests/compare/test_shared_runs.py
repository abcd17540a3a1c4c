"""A run that another process is at: it is waited for, and taken over if that one dies."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import Conduct, MakeStudy, timeless, values

from gptlab import files
from gptlab.compare import jobs
from gptlab.compare.beginning import alone
from gptlab.compare.conduct import How
from gptlab.compare.identity import noted
from gptlab.compare.jobs import Task, perform
from gptlab.compare.study import Study
from gptlab.runs.folder import RunFolder
from gptlab.train import loop
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
SHARED = ("train.steps=40", "train.evaluate_every=40")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note every step that is taken in this process."""
    taken: list[object] = []
    step = loop.take_step

    def spy(session: object) -> None:
        taken.append(session)
        step(session)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(loop, "take_step", spy)
    return taken


@contextmanager
def another_process(run: Conduct, study: Study, root: Path) -> Iterator[int]:
    """Let another process run a study, slowly, and wait until it is in its first run."""
    child = os.fork()
    if child == 0:
        os.setsid()
        step = loop.take_step
        loop.take_step = lambda session: (time.sleep(0.03), step(session))[0]
        run(study)
        os._exit(0)
    while not any(RunFolder(path.parent).is_locked() for path in root.glob("base-*/metrics.jsonl")):
        time.sleep(0.01)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_run_of_another_study_is_waited_for_and_used(
    study: MakeStudy,
    run: Conduct,
    how: How,
    steps: list[object],
    capsys: pytest.CaptureFixture[str],
):
    theirs = study(*SHARED, variants={"rope": "model.positions=rotary"}, seeds=(0,))
    mine = study(*SHARED, name="mine", variants={"rms": "model.norm=rms_norm"}, seeds=(0,))
    with another_process(run, theirs, how.root):
        steps.clear()
        results = run(mine)
    assert {each.variant: each.state for each in results.runs} == {"base": "done", "rms": "done"}
    assert len(steps) == 40  # those of `rms`
    assert not (how.folder(mine) / "failures.jsonl").exists()
    shown = capsys.readouterr().err
    assert "base, seed 0: waiting for another process, which has done " in shown
    assert " failed" not in shown


def test_a_run_that_another_process_begins_right_now_is_not_begun_twice(
    study: MakeStudy, run: Conduct, how: How, tmp_path: Path
):
    """The other reads a text for as long as it takes us to look for the run, under another name."""
    theirs = study(name="theirs", seeds=(0,), variants={"turned": "model.positions=rotary"})
    mine = study("model.positions=rotary", seeds=(0,), variants={"rms": "model.norm=rms_norm"})
    at_it = tmp_path / "at it"
    child = os.fork()
    if child == 0:
        os.setsid()
        begin = jobs.begin

        def slow(recipe: Recipe, *rest: Any) -> object:
            if recipe.name.startswith("turned-"):
                at_it.touch()
                time.sleep(1.0)
            return begin(recipe, *rest)

        jobs.begin = slow  # pyright: ignore[reportAttributeAccessIssue]
        run(theirs)
        os._exit(0)
    while not at_it.exists():
        time.sleep(0.01)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    results = run(mine)
    assert os.waitpid(child, 0)[1] == 0
    assert {each.variant: each.state for each in results.runs} == {"base": "done", "rms": "done"}
    assert sorted(path.name.split("-")[0] for path in how.root.glob("*-s0-*")) == [
        "base",
        "rms",
        "turned",
    ]
    assert not [path for path in how.root.iterdir() if path.is_file()]


def test_a_run_whose_process_dies_is_taken_over(
    study: MakeStudy, run: Conduct, how: How, steps: list[object], monkeypatch: pytest.MonkeyPatch
):
    whole = run(study(*SHARED, seeds=(0,)), replace(how, root=how.root.parent / "whole"))
    mine = study(*SHARED, seeds=(0,))
    waits = jobs.Ended
    with another_process(run, study(*SHARED, name="theirs", seeds=(0,)), how.root) as child:

        def ended(task: Task, how: str, problem: str = "") -> jobs.Ended:
            if how == "taken":
                os.kill(child, signal.SIGKILL)
            return waits(task, how, problem)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(jobs, "Ended", ended)
        steps.clear()
        results = run(mine)
    assert 80 < len(steps) <= 120  # its own two runs, and the rest of the other
    assert values(results, "base") == values(whole, "base")
    assert {each.state for each in results.runs} == {"done"}
    assert not (how.folder(mine) / "failures.jsonl").exists()


def test_a_folder_that_appears_meanwhile_is_no_failure(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    """Two processes begin the same run: one of them finds the other's folder."""
    alone = run(study(seeds=(0,)), replace(how, root=how.root.parent / "alone"))
    begin, seen = jobs.begin, []

    def late(recipe: object, root: Path, *rest: object) -> object:
        if not seen:
            seen.append(recipe)
            start_run(recipe, root, say=lambda text: None)  # pyright: ignore[reportArgumentType]
        return begin(recipe, root, *rest)  # pyright: ignore

    monkeypatch.setattr(jobs, "begin", late)
    results = run(study(seeds=(0,)))
    assert seen
    assert [values(results, arm) for arm in ("base", "rope")] == [
        values(alone, arm) for arm in ("base", "rope")
    ]
    assert timeless(results.runs[0].curve.model_dump()) == timeless(
        alone.runs[0].curve.model_dump()
    )
    assert not (how.folder(study()) / "failures.jsonl").exists()


@pytest.mark.parametrize("hindrance", ["runs", "runs/.0123.lock"])
def test_a_folder_that_cannot_be_written_is_said_in_one_line(hindrance: str, tmp_path: Path):
    root = tmp_path / "runs"
    if root == tmp_path / hindrance:
        root.touch()
    else:
        (tmp_path / hindrance).mkdir(parents=True)
    with pytest.raises(files.WriteError, match=r"runs/\.0123\.lock could not be locked: "):
        alone(root, "0123").__enter__()


def test_what_was_sealed_while_waiting_is_not_touched(study: MakeStudy, run: Conduct, how: How):
    results = run(study(seeds=(0,)))
    path = how.folder(study()) / results.runs[0].folder
    folder = RunFolder(path.resolve())
    before = {file: file.stat().st_mtime_ns for file in folder.path.glob("*.json*")}
    task = Task(str(folder.path.parent), folder.name, "", 1, 1.0)
    assert perform(task, lambda text: None).how == noted(folder) == "done"
    assert before == {file: file.stat().st_mtime_ns for file in folder.path.glob("*.json*")}


def test_a_run_that_another_study_began_under_another_name_is_not_done_twice(
    study: MakeStudy, run: Conduct, how: How, steps: list[object], monkeypatch: pytest.MonkeyPatch
):
    """While a run waits its turn, it appears as the base of a study of another base."""
    asked = study(seeds=(0,), variants={"rope": "model.positions=rotary"})
    rms = {"rms": "model.norm=rms_norm"}
    theirs = study("model.positions=rotary", name="theirs", seeds=(0,), variants=rms)
    perform = jobs.perform

    def late(task: Task, say: Callable[[str], None]) -> jobs.Ended:
        if task.name.startswith("rope-"):
            monkeypatch.setattr(jobs, "perform", perform)
            run(theirs)
            steps.clear()
        return perform(task, say)

    monkeypatch.setattr(jobs, "perform", late)
    results = run(asked)
    assert {each.variant: each.state for each in results.runs} == {"base": "done", "rope": "done"}
    assert not steps
    assert not list(how.root.glob("rope-*"))


def test_of_two_folders_of_a_run_the_one_that_has_ended_is_read(
    study: MakeStudy, run: Conduct, how: How, steps: list[object]
):
    whole = run(study(seeds=(0,)))
    (done,) = how.root.glob("base-*")
    unfinished = done.with_name(done.name.replace("base", "a"))
    shutil.copytree(done, unfinished)
    (unfinished / "sealed.json").unlink()
    steps.clear()
    assert run(study(seeds=(0,))) == whole
    assert not steps
