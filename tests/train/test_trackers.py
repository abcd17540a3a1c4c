"""Trackers beside metrics.jsonl: they get every line, and training never waits for them (F16)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from ends import assert_same_end, metrics, quiet

from gptlab.train import sinks
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.usefixtures("quick_disk")


class Tracker:
    """Stands in for wandb; `fault` happens at `moment`: init, log or finish."""

    def __init__(self, moment: str, fault: Callable[[], None]):
        self.moment, self.fault = moment, fault
        self.lines: list[dict[str, Any]] = []

    def act(self, moment: str) -> None:
        if moment == self.moment:
            self.fault()

    def init(self, **given: object) -> "Tracker":
        self.act("init")
        return self

    def log(self, line: dict[str, Any], step: int) -> None:
        self.act("log")
        self.lines.append(line)

    def finish(self) -> None:
        self.act("finish")


def fail() -> None:
    raise ConnectionError("no network")


@pytest.fixture
def hang() -> Iterator[Callable[[], None]]:
    """Wait until the test is over."""
    over = Event()

    def wait() -> None:
        over.wait()

    yield wait
    over.set()


@pytest.mark.parametrize("moment", ["never", "init", "log", "finish"])
@pytest.mark.parametrize("way", ["fails", "hangs"])
def test_a_tracker_never_holds_up_training(
    moment: str,
    way: str,
    hang: Callable[[], None],
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """It is left out with a warning, and the run is the same (F16)."""
    tracker = Tracker(moment, fail if way == "fails" else hang)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=tracker.init))
    monkeypatch.setattr(sinks, "PATIENCE", 0.2 if way == "hangs" and moment != "never" else 60)
    recipe = tiny_recipe("name=without")
    without = start_run(recipe, tmp_path, say=quiet).run.path
    capfd.readouterr()
    tracked = recipe.but(name="with", train=recipe.train.but(wandb="project"))
    outcome = start_run(tracked, tmp_path, say=quiet)
    assert outcome.reason == "done"
    assert_same_end(without, outcome.run.path)
    said = capfd.readouterr().err
    if moment == "never":
        assert "Weights & Biases" not in said
        assert [line["step"] for line in tracker.lines] == [x["step"] for x in metrics(without)]
    elif way == "hangs":
        assert said.count("Weights & Biases did not finish in 0.2 seconds") == 1
    else:
        assert said.count("Weights & Biases failed and is left out from here on: no network") == 1


def test_a_tracker_that_falls_behind_is_left_out(
    hang: Callable[[], None],
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """What waits for a tracker that hangs does not fill the memory."""
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=Tracker("log", hang).init))
    monkeypatch.setattr(sinks, "MAX_WAITING", 3)
    assert start_run(tiny_recipe("train.wandb=project"), tmp_path, say=quiet).reason == "done"
    said = capfd.readouterr().err
    assert said.count("Weights & Biases hangs and is left out from here on") == 1


def test_tensorboard_shows_each_step_once_after_resuming(tiny_recipe: MakeRecipe, tmp_path: Path):
    """The events of steps that a resumed run takes again are hidden."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = tiny_recipe("train.tensorboard=true", "train.steps=7", "schedule=constant")
    path = start_run(recipe, tmp_path, say=quiet).run.path
    (path / "checkpoints" / "step-00000007" / "state.json").unlink()  # so it goes back to step 5
    assert resume_run(path, ["train.steps=9"], say=quiet).session.step == 9
    shown = events.EventAccumulator(str(path / "tensorboard"))
    shown.Reload()
    for name in ("train_loss", "val_loss", "lr"):
        written = [(x["step"], x[name]) for x in metrics(path) if x[name] is not None]
        seen = [(event.step, event.value) for event in shown.Scalars(name)]
        assert [step for step, _ in seen] == [step for step, _ in written]
        assert [value for _, value in seen] == pytest.approx([value for _, value in written])
