"""What is not finite is never stepped on and never saved (F9)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ends import assert_same_end, quiet
from faults import Fault, after_call
from torch import Tensor

from gptlab.model.gpt import GPT
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

MakeRecipe = Callable[..., Recipe]
Losses = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("quick_disk")


def tensors(path: Path, step: int) -> dict[str, dict[str, Tensor]]:
    return checkpoint.load(dict(checkpoint.every(path / "checkpoints"))[step]).tensors


def assert_equal(a: dict[str, dict[str, Tensor]], b: dict[str, dict[str, Tensor]]) -> None:
    assert a.keys() == b.keys()
    for group in a:
        assert a[group].keys() == b[group].keys()
        assert all(torch.equal(a[group][name], b[group][name]) for name in a[group])


def spoiled_gradient(value: float) -> Fault:
    def fault(model: GPT, losses: Losses) -> Losses:
        weight = model.blocks[1].get_parameter("mlp.up.weight")
        weight.register_hook(lambda gradient: torch.full_like(gradient, value))
        return losses

    return fault


def spoiled_loss(value: float) -> Fault:
    return lambda model, losses: losses | {"loss": losses["loss"] * value}


NAN, INF = float("nan"), float("inf")
DIVERGING = {
    "a loss of nan": (spoiled_loss(NAN), ()),
    "a loss of inf": (spoiled_loss(INF), ()),
    "a loss of -inf": (spoiled_loss(-INF), ()),
    "a gradient of nan": (spoiled_gradient(NAN), ()),
    "a gradient of inf": (spoiled_gradient(INF), ()),
    "muon, a loss of nan": (spoiled_loss(NAN), ("optimizer=muon",)),
    "muon, a gradient of inf": (spoiled_gradient(INF), ("optimizer=muon",)),
    "no clipping, a gradient of nan": (spoiled_gradient(NAN), ("train.grad_clip=0",)),
    "no clipping, a gradient of -inf": (spoiled_gradient(-INF), ("train.grad_clip=null",)),
    "one portion, a loss of nan": (spoiled_loss(NAN), ("train.micro_batch_tokens=8",)),
    "one portion, a gradient of nan": (spoiled_gradient(NAN), ("train.micro_batch_tokens=8",)),
}


@pytest.mark.parametrize("fault", DIVERGING)
def test_no_step_is_taken_on_what_is_not_finite(
    fault: str, tiny_recipe: MakeRecipe, tmp_path: Path
):
    """The weights and the optimizer's state that are saved are those of the step before (F9)."""
    spoil, settings = DIVERGING[fault]
    recipe = tiny_recipe("train.checkpoint_every=100", *settings)
    turn = 14 if "train.micro_batch_tokens=8" in settings else 4  # a forward pass of step 4
    whole = start_run(
        recipe.but(name="whole", train=recipe.train.but(checkpoint_every=3, keep_last=9)),
        tmp_path,
        say=quiet,
    ).run.path
    with (
        after_call(GPT, "losses", turn, spoil),
        pytest.raises(FloatingPointError, match=r"diverged at step 4: .*that of step 3$"),
    ):
        start_run(recipe.but(name="mine"), tmp_path, say=quiet)
    mine = RunFolder.open(tmp_path / "mine")
    assert_equal(tensors(mine.path, 3), tensors(whole, 3))
    assert (mine.state(), mine.status()["step"]) == ("failed", 3)
    resume_run(mine.path, say=quiet)  # the fault is gone
    assert_same_end(whole, mine.path)


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(
    ("every", "left", "message"),
    [
        (1, [2], "after step 3 .*mlp.up.weight is not finite; .*is that of step 2$"),
        (2, [2], "diverged at step 4: loss nan.*is that of step 2$"),
        (100, [], "diverged at step 4: loss nan.* has no checkpoint yet$"),
    ],
)
def test_a_weight_that_is_not_finite_is_never_saved(
    value: float, every: int, left: list[int], message: str, tiny_recipe: MakeRecipe, tmp_path: Path
):
    """One weight goes wrong after step 3; the checkpoints before are not driven out by it."""

    def break_a_weight(optimizers: OptimizerSet, result: None) -> None:
        weight = optimizers.parameters["blocks.1.mlp.up.weight"]
        weight.data[0, 0] = value

    recipe = tiny_recipe(f"train.checkpoint_every={every}", "train.keep_last=1")
    whole = start_run(recipe.but(name="whole"), tmp_path, say=quiet).run.path
    with (
        after_call(OptimizerSet, "step", 3, break_a_weight),
        pytest.raises(FloatingPointError, match=message),
    ):
        start_run(recipe.but(name="mine"), tmp_path, say=quiet)
    mine = tmp_path / "mine"
    assert [step for step, _ in checkpoint.every(mine / "checkpoints")] == left
    resume_run(mine, say=quiet)
    assert_same_end(whole, mine)


def test_optimizer_state_that_is_not_finite_is_never_saved(tiny_recipe: MakeRecipe, tmp_path: Path):
    def break_its_state(optimizers: OptimizerSet, result: None) -> None:
        optimizers.state()["blocks.0.mlp.up.weight/exp_avg_sq"].fill_(INF)

    with (
        after_call(OptimizerSet, "step", 5, break_its_state),
        pytest.raises(FloatingPointError, match=r"blocks.0.mlp.up.weight/exp_avg_sq is not finite"),
    ):
        start_run(tiny_recipe("name=mine"), tmp_path, say=quiet)
    assert not checkpoint.every(tmp_path / "mine" / "checkpoints")
