"""What can break a run from inside or outside, and what is left of it then (F5, F13, F14, F17)."""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ends import assert_same_end, metrics, quiet
from faults import Fault, after_call, raising, spoiled_loss
from processes import command_line, exit_code, exit_of, fork, wait_for
from torch import Tensor

from gptlab import files
from gptlab.kernels import cross_entropy
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.usefixtures("quick_disk")
needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 9000000000000 bytes. Error code 12 (Cannot allocate memory)"
)
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("error", [CPU, GPU, MemoryError()], ids=["cpu", "gpu", "python"])
@pytest.mark.parametrize(
    ("owner", "name", "turn", "left"),
    [
        (cross_entropy, "logit_losses", 1, "has no checkpoint yet"),
        (cross_entropy, "logit_losses", 8, "is that of step 5"),  # 5 steps, 2 windows' evaluation
        (OptimizerSet, "step", 7, "is that of step 5"),
    ],
)
def test_out_of_memory(
    error: Exception,
    owner: Any,
    name: str,
    turn: int,
    left: str,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
):
    """Three things to try, and a checkpoint that goes on (F17)."""
    recipe = tiny_recipe("name=mine")
    whole = start_run(recipe.but(name="whole"), tmp_path, say=quiet).run.path
    with (
        after_call(owner, name, turn, raising(error)),
        pytest.raises(MemoryError, match=f"with 4 rows of 8 tokens .*{left}$") as caught,
    ):
        start_run(recipe, tmp_path, say=quiet)
    for remedy in ("train.micro_batch_tokens=16", "model.context_length", "model.d_model"):
        assert remedy in str(caught.value)
    assert resume_run(tmp_path / "mine", say=quiet).reason == "done"
    assert_same_end(whole, tmp_path / "mine")


def test_a_real_refusal_of_memory_is_recognised(tiny_recipe: MakeRecipe, tmp_path: Path):
    def ask_for_too_much(logits: Tensor, loss: Tensor) -> Tensor:
        return loss + torch.empty(2**60)

    recipe = tiny_recipe("train.micro_batch_tokens=8")
    with (
        after_call(cross_entropy, "logit_losses", 1, ask_for_too_much),
        pytest.raises(MemoryError, match=r"with 1 rows of 8 .* a smaller model\.n_layers"),
    ):
        start_run(recipe, tmp_path, say=quiet)


def test_other_errors_stay_what_they_are(tiny_recipe: MakeRecipe, tmp_path: Path):
    error = RuntimeError("a bug of ours")
    with (
        after_call(cross_entropy, "logit_losses", 3, raising(error)),
        pytest.raises(RuntimeError, match="a bug of ours") as caught,
    ):
        start_run(tiny_recipe("name=mine"), tmp_path, say=quiet)
    assert caught.value is error
    assert error.__cause__ is None
    assert RunFolder.open(tmp_path / "mine").status()["reason"] == "RuntimeError: a bug of ours"


@pytest.mark.parametrize(
    ("fault", "start"),
    [
        (spoiled_loss(float("nan")), "failed: the run diverged at step 3"),
        (raising(GPU), "failed: out of memory at step 3"),
    ],
)
def test_a_run_that_fails_exits_with_1_and_one_line(
    fault: Fault,
    start: str,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(tiny_recipe("name=mine").to_yaml())
    with after_call(cross_entropy, "logit_losses", 3, fault):
        assert exit_code("train", "mine.yaml") == 1
    said = capfd.readouterr().err
    assert said.splitlines()[-1].startswith(start)
    assert "Traceback" not in said


def refused(*names: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    """Let the disk refuse changes, as in a folder that has become read-only."""

    def refuse(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
        def fail(path: Path, *given: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        for name in names:
            monkeypatch.setattr(files, name, fail)

    return refuse


def delete(monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    shutil.rmtree(run)


LOSSES = {
    "deleted": (delete, "mine", "No such file"),
    "read-only": (refused("append", "write", "make_folder"), "metrics.jsonl", "Permission denied"),
    "only checkpoints": (refused("make_folder"), "step-00000005", "Permission denied"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_folder_that_is_lost_while_training(
    loss: str,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """One line that names the path; what was written before is kept (F5)."""
    monkeypatch.chdir(tmp_path)
    happen, path, reason = LOSSES[loss]
    recipe = tiny_recipe("name=mine")
    whole = start_run(recipe.but(name="whole"), tmp_path, say=quiet).run.path
    (tmp_path / "mine.yaml").write_text(recipe.to_yaml())
    mine = tmp_path / "runs" / "mine"
    with monkeypatch.context() as broken:

        def lose(logits: Tensor, result: Tensor) -> Tensor:
            happen(broken, mine)
            return result

        with after_call(cross_entropy, "logit_losses", 4, lose):
            assert exit_code("train", "mine.yaml") == 2
    said = capfd.readouterr().err.splitlines()
    assert said[-1].startswith("error: ")
    assert path in said[-1]
    assert reason in said[-1]
    assert not any("Traceback" in line for line in said)
    if loss == "deleted":
        assert not mine.exists()
    else:
        assert metrics(mine) == metrics(whole)[: len(metrics(mine))] != []
        resume_run(mine, say=quiet)
        assert_same_end(whole, mine)


@needs_fork
def test_two_processes_cannot_train_one_run(
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    """The second is refused in one line; a killed process leaves no lock (F14)."""
    recipe = tiny_recipe("train.steps=100000", "train.sample_tokens=0", "train.keep_last=1")
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        run = tmp_path / "runs" / f"run-{i}"
        child = fork(command_line(recipe.but(name=run.name), tmp_path), tmp_path / "said")
        wait_for(run / "checkpoints")
        capfd.readouterr()
        assert exit_code("resume", str(run)) == 2
        assert capfd.readouterr().err == f"error: {run} is in use by another process\n"
        with pytest.raises(ValueError, match="exists already"):
            start_run(recipe.but(name=run.name), run.parent, say=quiet)
        os.kill(child, signal.SIGKILL)
        assert exit_of(child) == -signal.SIGKILL
        saved = checkpoint.every(run / "checkpoints")
        steps = saved[-1][0] + 3 if saved else 3  # it may have been killed in its first save
        assert resume_run(run, [f"train.steps={steps}"], say=quiet).session.step == steps


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("lr: 0.001", "lr: 0.5", r"^optimizer\.lr=0\.5 cannot be changed on resuming.*is 0\.001"),
        ("type: adamw", "type: muon", r"^optimizer\.type=muon cannot be changed"),
        ("d_model: 16", "d_model: 32", r"^model\.d_model=32 cannot be changed"),
        ("seed: 3", "seed: 4", r"^seed=4 cannot be changed"),
        ("n_layers: 2", "n_layer: 2", r"n_layer'; did you mean 'n_layers'"),
    ],
)
def test_a_config_changed_by_hand_is_refused(
    before: str, after: str, message: str, tiny_recipe: MakeRecipe, tmp_path: Path
):
    """A checkpoint knows the recipe that it belongs to (F13)."""
    recipe = tiny_recipe("name=a", "train.steps=2", "optimizer.lr=0.001")
    run = start_run(recipe, tmp_path, say=quiet).run
    config = run.path / "config.yaml"
    text = config.read_text()
    assert text.count(before) == 1
    config.write_text(text.replace(before, after))
    with pytest.raises(ValueError, match=message):
        resume_run(run.path, ["train.steps=4"], say=quiet)
    config.write_text(text)
    assert resume_run(run.path, ["train.steps=4"], say=quiet).session.step == 4


def test_what_a_run_started_from_may_be_gone_when_it_is_resumed(
    tiny_recipe: MakeRecipe, tmp_path: Path
):
    source = start_run(tiny_recipe("name=source", "train.steps=2"), tmp_path, say=quiet).run.path
    recipe = tiny_recipe(f"train.init_from={source}", "tokenizer=byte", "schedule=constant")
    whole = start_run(recipe.but(name="whole"), tmp_path, say=quiet).run.path
    half = recipe.but(name="half", train=recipe.train.but(steps=6))
    path = start_run(half, tmp_path, say=quiet).run.path
    assert RunFolder.open(path).config_tree()["tokenizer"]["type"] == "char", "its source's"
    shutil.rmtree(source)
    resume_run(path, ["train.steps=12"], say=quiet)
    assert metrics(path)[-1] == metrics(whole)[-1]


def test_the_best_checkpoint_stays_among_those_there_are(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The best evaluation, at step 3, has no checkpoint; of those that have one, 4 is the best."""
    losses = {1: 9.0, 2: 8.0, 3: 1.0, 4: 5.0}
    steps = iter(range(1, 13))
    monkeypatch.setattr(
        "gptlab.train.loop.validation_loss", lambda *_, **__: losses.get(next(steps), 7.0)
    )
    recipe = tiny_recipe("train.evaluate_every=1", "train.checkpoint_every=2", "train.keep_last=1")
    path = start_run(recipe, tmp_path, say=quiet).run.path
    assert [step for step, _ in checkpoint.every(path / "checkpoints")] == [4, 12]
