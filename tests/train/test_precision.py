"""Precision: products in bfloat16 where that pays; weights and their memory in float32 always."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ends import last_files, metrics, quiet
from torch import Tensor, nn

from gptlab import machine
from gptlab.parts.layers import Linear
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.train.precision import choose_precision
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.usefixtures("quick_disk")
CPU = torch.device("cpu")


def products_of(recipe: Recipe, root: Path, monkeypatch: pytest.MonkeyPatch) -> set[torch.dtype]:
    """Train; give the types in which the model's matrices were multiplied."""
    seen: set[torch.dtype] = set()
    forward = nn.Linear.forward

    def spy(layer: Linear, x: Tensor) -> Tensor:
        y = forward(layer, x)
        if layer.training:
            seen.add(y.dtype)
        return y

    monkeypatch.setattr(nn.Linear, "forward", spy)
    start_run(recipe, root, say=quiet)
    return seen


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    ("precision", "is_fast", "expected"),
    [
        ("float32", True, torch.float32),
        ("float32", False, torch.float32),
        ("bf16", True, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_products_and_weights(
    precision: str,
    is_fast: bool,
    expected: torch.dtype,
    optimizer: str,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: is_fast)
    recipe = tiny_recipe(f"train.precision={precision}", f"optimizer={optimizer}", "name=mine")
    assert products_of(recipe, tmp_path, monkeypatch) == {expected}
    run = RunFolder.open(tmp_path / "mine")
    named = {torch.float32: "float32", torch.bfloat16: "bf16"}[expected]
    assert run.environment()["precision"] == named
    newest = checkpoint.newest(run.checkpoints, pytest.fail)
    assert newest
    saved = checkpoint.load(newest).tensors
    for group in ("model", "optimizer"):
        assert {x.dtype for x in saved[group].values()} == {torch.float32}


def test_bf16_where_it_does_not_pay_warns_and_trains_in_float32(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: False)
    said: list[str] = []
    asked = start_run(tiny_recipe("name=a", "train.precision=bf16"), tmp_path, say=said.append)
    assert [line for line in said if "bf16" in line] == [
        "train.precision=bf16, but bfloat16 products are not faster than float32 ones on this cpu: "
        "training in float32"
    ]
    plain = start_run(tiny_recipe("name=b", "train.precision=float32"), tmp_path, say=quiet)
    assert last_files(asked.run.path) == last_files(plain.run.path)


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_nothing_is_said_of_what_was_not_asked(precision: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: False)
    assert choose_precision(precision, CPU, pytest.fail) == "float32"


def test_bf16_learns_what_float32_learns(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same losses to bfloat16's rounding, and not to the last bit: it was really used."""
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: True)
    paths = [
        start_run(tiny_recipe(f"train.precision={name}", f"name={name}"), tmp_path, say=quiet)
        for name in ("float32", "bf16")
    ]
    lines = [metrics(outcome.run.path) for outcome in paths]
    assert lines[0] != lines[1]
    for a, b in zip(*lines, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=5e-3)


def test_resuming_where_bf16_pays_no_more_says_so(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: True)
    recipe = tiny_recipe("train.precision=auto", "train.steps=2")
    path = start_run(recipe, tmp_path, say=quiet).run.path
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: False)
    said: list[str] = []
    resume_run(path, ["train.steps=3"], say=said.append)
    assert "resuming with precision float32, was bf16: not bit for bit the same run" in said
