"""SIGINT and SIGTERM: the step is finished, the run saved, and nothing is lost (F3)."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ends import assert_same_end, metrics, quiet
from processes import command_line, exit_code, exit_of, fork, wait_for

from gptlab.data import corpus
from gptlab.evaluate import validation
from gptlab.kernels import cross_entropy
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.train import opening, report
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run
from gptlab.train.session import Session
from gptlab.train.signals import SHOW_CURSOR

MakeRecipe = Callable[..., Recipe]
NUMBERS = (signal.SIGINT, signal.SIGTERM)
needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

MOMENTS: dict[str, tuple[Any, str, int, int]] = {  # what is called, for which time, at which step
    "before the first step": (report, "training_flops_per_token", 1, 0),
    "the first step": (cross_entropy, "logit_losses", 1, 1),
    "a step": (cross_entropy, "logit_losses", 4, 4),
    "an update": (OptimizerSet, "step", 7, 7),
    "a step before an evaluation": (cross_entropy, "logit_losses", 5, 5),
    "the begin of an evaluation": (cross_entropy, "logit_losses", 6, 5),
    "the middle of an evaluation": (cross_entropy, "logit_losses", 12, 5),
    "a sample": (Session, "write_sample", 1, 5),
    "a save": (checkpoint, "save", 2, 10),
    "a line of metrics": (RunFolder, "append_metrics", 5, 6),
    "clearing up": (checkpoint, "prune", 2, 10),
    "the last step": (OptimizerSet, "step", 12, 12),
    "the last evaluation": (Session, "write_sample", 3, 12),
}


@contextmanager
def interrupted(
    owner: Any, name: str, turn: int, number: signal.Signals, times: int = 1
) -> Iterator[None]:
    """Send this process a signal when something is called for the `turn`-th time."""
    original, calls = getattr(owner, name), 0

    def call(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        for _ in range(times if calls == turn else 0):
            signal.raise_signal(number)
        return original(*given, **named)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


@pytest.fixture(autouse=True)
def small_evaluations(monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> None:
    """Evaluate one window at a time, so that an evaluation has a middle."""
    monkeypatch.setattr(validation, "LOGITS_AT_ONCE", 1)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_saves_and_the_resumed_run_ends_the_same(
    moment: str,
    number: signal.Signals,
    tiny_recipe: MakeRecipe,
    in_tmp: Path,
    capfd: pytest.CaptureFixture[str],
):
    recipe = tiny_recipe("model.dropout=0.1", "train.keep_last=9")
    whole = start_run(recipe.but(name="whole"), in_tmp, say=quiet).run.path
    owner, name, turn, step = MOMENTS[moment]
    with interrupted(owner, name, turn, number):
        code = exit_code(*command_line(recipe.but(name="mine"), in_tmp))
    assert code == 128 + number
    mine = in_tmp / "runs" / "mine"
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == f"saved after step {step}; go on with: gptlab resume runs/mine"
    newest = checkpoint.newest(mine / "checkpoints", pytest.fail)
    assert newest
    assert checkpoint.load(newest).step == step
    status = RunFolder.open(mine).status()
    assert (status["state"], status["step"], status["reason"]) == ("stopped", step, number.name)
    if "evaluation" in moment and step == 5:
        assert all(line["step"] != 5 for line in metrics(mine)), "the evaluation is not done yet"
    assert resume_run(mine, say=quiet).reason == "done"
    assert_same_end(whole, mine)


def test_signals_are_handled_as_before_afterwards(tiny_recipe: MakeRecipe, tmp_path: Path):
    before = [signal.getsignal(number) for number in NUMBERS]
    with interrupted(cross_entropy, "logit_losses", 2, signal.SIGINT):
        start_run(tiny_recipe(), tmp_path, say=quiet)
    assert [signal.getsignal(number) for number in NUMBERS] == before


@needs_fork
@pytest.mark.parametrize("number", NUMBERS)
def test_signals_from_outside_at_random_moments(
    number: signal.Signals, tiny_recipe: MakeRecipe, in_tmp: Path
):
    """Ten times: wait until training has begun, and send a signal at any moment after."""
    recipe = tiny_recipe("train.steps=100000", "train.sample_tokens=0", "train.keep_last=1")
    draw = random.Random(0)
    for i in range(10):
        run = in_tmp / "runs" / f"run-{i}"
        child = fork(command_line(recipe.but(name=run.name), in_tmp), in_tmp / "said")
        wait_for(run / "metrics.jsonl")
        time.sleep(draw.uniform(0, 0.05))
        os.kill(child, number)
        assert exit_of(child) == 128 + number
        status = RunFolder.open(run).status()
        assert status["state"] == "stopped"
        assert checkpoint.every(run / "checkpoints")[-1][0] == status["step"] > 0
        said = (in_tmp / "said").read_text().splitlines()[-1]
        assert said == (
            f"saved after step {status['step']}; go on with: gptlab resume runs/{run.name}"
        )


@needs_fork
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("moment", ["a step", "the middle of an evaluation", "a sample", "a save"])
def test_a_second_signal_ends_at_once(
    moment: str, number: signal.Signals, tiny_recipe: MakeRecipe, in_tmp: Path
):
    """What is under way is not finished, and what was saved before is whole."""
    words = command_line(tiny_recipe("name=mine"), in_tmp)
    owner, name, turn, step = MOMENTS[moment]
    with interrupted(owner, name, turn, number, times=2):
        code = exit_of(fork(words, in_tmp / "said"))
    assert code == 128 + number
    assert "saved after" not in (in_tmp / "said").read_text()
    mine = RunFolder.open(in_tmp / "runs" / "mine")
    assert mine.state() == "interrupted"
    saved = [number for number, _ in checkpoint.every(mine.checkpoints)]
    assert saved == [5] * (step >= 5)
    assert resume_run(mine.path, say=quiet).reason == "done"


@needs_fork
def test_a_second_signal_gives_the_terminal_its_cursor_back(tiny_recipe: MakeRecipe, in_tmp: Path):
    ours, theirs = os.openpty()
    words = command_line(tiny_recipe("name=mine"), in_tmp)
    with interrupted(cross_entropy, "logit_losses", 4, signal.SIGINT, times=2):
        child = fork(words, Path(os.ttyname(theirs)))
    assert exit_of(child) == 130
    assert os.read(ours, 100_000).endswith(SHOW_CURSOR.replace(b"\n", b"\r\n"))
    os.close(ours)
    os.close(theirs)


EARLY = {
    "reading the text": (corpus, "prepare"),
    "writing the run's first files": (opening.RunFolder, "write_environment"),
}


@pytest.mark.parametrize("moment", EARLY)
def test_ctrl_c_before_training_leaves_nothing(
    moment: str, tiny_recipe: MakeRecipe, in_tmp: Path, capfd: pytest.CaptureFixture[str]
):
    owner, name = EARLY[moment]
    with interrupted(owner, name, 1, signal.SIGINT):
        assert exit_code(*command_line(tiny_recipe("name=mine"), in_tmp)) == 130
    assert capfd.readouterr().err.splitlines() == ["reading the text", "stopped"]
    assert not list((in_tmp / "runs").glob("*"))


@needs_fork
def test_sigterm_before_training_leaves_nothing(tiny_recipe: MakeRecipe, in_tmp: Path):
    with interrupted(corpus, "prepare", 1, signal.SIGTERM):
        child = fork(command_line(tiny_recipe("name=mine"), in_tmp), in_tmp / "said")
    assert exit_of(child) == -signal.SIGTERM  # a shell calls it 143
    assert not (in_tmp / "runs").exists()


@needs_fork
def test_ctrl_c_while_resuming_changes_nothing(
    tiny_recipe: MakeRecipe, in_tmp: Path, capfd: pytest.CaptureFixture[str]
):
    with interrupted(cross_entropy, "logit_losses", 4, signal.SIGTERM):
        path = start_run(tiny_recipe("name=mine"), in_tmp, say=quiet).run.path
    before = {file: file.read_bytes() for file in path.rglob("*.json*")}
    with interrupted(corpus, "tokenize", 1, signal.SIGINT):
        assert exit_code("resume", str(path)) == 130
    assert {file: file.read_bytes() for file in path.rglob("*.json*")} == before
    assert RunFolder.open(path).state() == "stopped"
