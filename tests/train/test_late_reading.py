"""Numbers that are read a step late, as from a GPU: the same run, and the same end where it breaks.

Nothing of this needs a GPU: torch's fused AdamW leaves steps out on a CPU as well.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ends import assert_same_end, quiet
from faults import after_call
from test_not_finite import INF, NAN, assert_equal, spoiled_gradient, spoiled_loss, tensors

from gptlab.model.gpt import GPT
from gptlab.runs.folder import RunFolder
from gptlab.train.optimizers import OptimizerSet
from gptlab.train.readings import Reading
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run
from gptlab.train.session import Session

MakeRecipe = Callable[..., Recipe]
NOTHING_DUE = (
    "optimizer=adamw",
    "train.log_every=100",
    "train.checkpoint_every=null",
    "train.evaluate_every=null",
)

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(Session, "can_read_late", lambda s: True)


@pytest.mark.parametrize("settings", [(), NOTHING_DUE], ids=["reports", "nothing due"])
def test_a_run_that_is_read_late_is_the_same(
    tiny_recipe: MakeRecipe, tmp_path: Path, late: Callable[[], None], settings: tuple[str, ...]
):
    at_once = start_run(tiny_recipe("name=at_once", *settings), tmp_path, say=quiet).run
    late()
    mine = start_run(tiny_recipe("name=mine", *settings), tmp_path, say=quiet).run
    assert_same_end(at_once.path, mine.path)


def test_nobody_waits_for_the_step_that_was_just_given_out(
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    late: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
):
    """Steps 1, the last, and those of reports are waited for; of others, the one before."""
    steps_taken, read = 0, []
    step, wait = OptimizerSet.step, Reading.read

    def count(self: OptimizerSet, *given: torch.Tensor | None) -> None:
        nonlocal steps_taken
        steps_taken += 1
        step(self, *given)

    def note(self: Reading) -> dict[str, float]:
        read.append((self.step, steps_taken))
        return wait(self)

    monkeypatch.setattr(OptimizerSet, "step", count)
    monkeypatch.setattr(Reading, "read", note)
    late()
    settings = (*NOTHING_DUE, "train.steps=7", "train.log_every=5")
    start_run(tiny_recipe(*settings), tmp_path, say=quiet)
    assert read == [(1, 1), (2, 3), (3, 4), (4, 5), (5, 5), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    "spoil",
    [spoiled_loss(NAN), spoiled_loss(-INF), spoiled_gradient(NAN), spoiled_gradient(INF)],
    ids=["loss nan", "loss -inf", "gradient nan", "gradient inf"],
)
def test_what_is_not_finite_changes_nothing_though_it_is_seen_a_step_later(
    spoil: Callable, tiny_recipe: MakeRecipe, tmp_path: Path, late: Callable[[], None]
):
    """Step 4 breaks, step 5 was given out by then: what is saved is step 3, and it goes on."""
    recipe = tiny_recipe(*NOTHING_DUE, "train.steps=9")
    by_threes = recipe.train.but(checkpoint_every=3, keep_last=9)
    whole = start_run(recipe.but(name="whole", train=by_threes), tmp_path, say=quiet).run.path
    late()
    with (
        after_call(GPT, "losses", 4, spoil),
        pytest.raises(FloatingPointError, match=r"diverged at step 4: .*that of step 3$"),
    ):
        start_run(recipe.but(name="mine"), tmp_path, say=quiet)
    mine = RunFolder.open(tmp_path / "mine")
    assert_equal(tensors(mine.path, 3), tensors(whole, 3))
    assert (mine.state(), mine.status()["step"]) == ("failed", 3)
    assert [line["step"] for line in mine.metrics()[0]] == [1]
    resume_run(mine.path, say=quiet)
    assert_equal(tensors(mine.path, 9), tensors(whole, 9))


@pytest.mark.parametrize(("settings", "device", "is_late"), [
    (("optimizer=adamw",), "cuda", True),
    (("optimizer=adamw",), "cpu", False),
    (("optimizer=muon",), "cuda", False),
    (("optimizer=adamw", "model.mlp=mixture_of_experts"), "cuda", True),
    (("model.mlp=mixture_of_experts", "model.mlp.load_bias_step=0.01"), "cuda", False),
])  # fmt: skip
def test_only_what_a_gpu_can_undo_is_read_late(
    tiny_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: tuple[str, ...],
    device: str,
    is_late: bool,
):
    made = start_run(tiny_recipe(*settings, "train.steps=1"), tmp_path, say=quiet).session
    monkeypatch.setattr(Session, "device", torch.device(device))
    assert made.can_read_late() is is_late
