"""Where a step's time goes: every part gets its own, forward and backward, and nobody twice."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ends import quiet
from torch import Tensor, nn

from gptlab.model.gpt import GPT
from gptlab.train import watching
from gptlab.train.loop import take_step
from gptlab.train.recipe import Recipe
from gptlab.train.rehearsal import rehearse
from gptlab.train.session import Session
from gptlab.train.watching import BACKWARD, FORWARD, attribute, watch

MakeRecipe = Callable[..., Recipe]
PAUSE = 0.02


class Pause(torch.autograd.Function):
    """Hands a tensor through and takes its time, going forward or coming back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, way: str) -> Tensor:
        ctx.way = way
        time.sleep(PAUSE if way == FORWARD else 0)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        time.sleep(PAUSE if ctx.way == BACKWARD else 0)
        return grads[0], None


class Slow(nn.Module):
    """Delays the first tensor that a module is given."""

    def __init__(self, inner: nn.Module, way: str):
        super().__init__()
        self.inner, self.way = inner, way

    def forward(self, x: Tensor, *given: Any) -> Any:
        return self.inner(Pause.apply(x, self.way), *given)


def slow_down(gpt: GPT, part: str, way: str) -> None:
    block: Any = gpt.blocks[1]
    if part == "norm":
        block.residual.norms[0].forward = slow(block.residual.norms[0].forward, way)
    elif part == "head":
        gpt.head.losses = slow(gpt.head.losses, way)
    elif part == "embedding":
        gpt.ends.open = slow(gpt.ends.open, way)
    else:
        setattr(block, part, Slow(getattr(block, part), way))


def slow(function: Callable[..., Any], way: str) -> Callable[..., Any]:
    return lambda x, *given: function(Pause.apply(x, way), *given)


def session(tiny_recipe: MakeRecipe, *settings: str) -> Session:
    s = rehearse(tiny_recipe(*settings), quiet)
    take_step(s)
    return s


@pytest.mark.parametrize("way", [FORWARD, BACKWARD])
@pytest.mark.parametrize("part", ["embedding", "norm", "attention", "mlp", "residual", "head"])
def test_who_takes_his_time_is_found(part: str, way: str, tiny_recipe: MakeRecipe):
    s = session(tiny_recipe)
    slow_down(s.model, part, way)
    assert watch(s, 1, lambda: None).seconds[part][way] >= PAUSE


@pytest.mark.parametrize("part", ["clipping", "optimizer", "batch"])
def test_what_is_beside_the_model_is_found(
    part: str, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    s = session(tiny_recipe)

    def pause_of(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (Pause.apply(torch.zeros(1), FORWARD), function(*given))[1]

    if part == "clipping":
        from gptlab.train import loop

        monkeypatch.setattr(loop, "get_total_norm", pause_of(loop.get_total_norm))
    else:
        owner, name = {"optimizer": (s.optimizers, "step"), "batch": (s, "portions")}[part]
        setattr(owner, name, pause_of(getattr(owner, name)))
    assert watch(s, 1, lambda: None).seconds[part][FORWARD] >= PAUSE


@pytest.mark.parametrize("residual", ["pre_norm", "hyper_connections", "parallel"])
def test_parts_add_up_to_the_step(
    residual: str, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []

    def spy(events: list[Any], on_gpu: bool) -> dict[str, dict[str, float]]:
        seen.extend(events)
        return attribute(events, on_gpu)

    monkeypatch.setattr(watching, "attribute", spy)
    s = session(tiny_recipe, f"model.residual={residual}", "model.multi_token.depth=1")
    found = watch(s, 2, lambda: None)
    steps = [event.cpu_time_total for event in seen if event.name == f"{watching.RANGE}step"]
    assert len(steps) == 2
    assert found.whole == pytest.approx(sum(steps) / 2e6, rel=1e-9)
    assert all(x >= 0 for ways in found.seconds.values() for x in ways.values())
    both = {part for part, ways in found.seconds.items() if ways.get(BACKWARD)}
    parts = {"embedding", "norm", "attention", "mlp", "residual", "head", "multi_token"}
    assert both == parts | {"rest"}  # adding up the losses
    assert found.bytes["attention"] == 2 * 2 * 32 * 16 * 4  # layers, in and out, tokens, width


def test_watching_changes_nothing(tiny_recipe: MakeRecipe):
    watched, alone = session(tiny_recipe), session(tiny_recipe)
    before = [set(vars(module)) for module in watched.model.modules()]
    watch(watched, 3, lambda: None)
    for _ in range(3):
        take_step(alone)
    assert watched.losses == alone.losses
    for a, b in zip(watched.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [set(vars(module)) for module in watched.model.modules()] == before
    assert "portions" not in vars(watched)


def test_a_rehearsal_takes_one_portion_and_lays_rows_out_as_the_recipe_does(
    tiny_recipe: MakeRecipe,
):
    s = rehearse(tiny_recipe("train.micro_batch_tokens=16", "batching=packed"), quiet)
    (portion,) = s.portions()
    assert portion.x_BT.shape == (2, 8)
    assert portion.places is not None
    assert portion.places.documents_BT is not None
    assert portion.places.documents_BT.unique(dim=1).shape[1] > 1
    assert int(portion.x_BT.max()) < s.model.embedding.num_embeddings
