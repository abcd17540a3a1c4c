"""Experts are balanced over whole steps: losses are reported, biases see every portion."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ends import metrics, quiet
from torch import Tensor

from gptlab.generate.loading import load
from gptlab.model.gpt import GPT
from gptlab.parts.mlp._balance import LoadBias
from gptlab.train.loop import take_step
from gptlab.train.opening import begin
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

MakeRecipe = Callable[..., Recipe]
MIXTURE = "model.mlp={type: mixture_of_experts, n_experts: 6, top_k: 2}"
BIAS = ("model.mlp.balance_loss=0", "model.mlp.load_bias_step=0.001")

pytestmark = pytest.mark.usefixtures("quick_disk")


def test_auxiliary_losses_are_reported_beside_the_loss(tiny_recipe: MakeRecipe, tmp_path: Path):
    z_loss = "model.mlp.router_z_loss=0.1"
    run = start_run(tiny_recipe(MIXTURE, z_loss), tmp_path, say=quiet).run
    two_layers = 2 * 0.1 * math.log(6) ** 2
    for line in metrics(run.path):
        assert line["train_balance_loss"] == pytest.approx(2 * 0.01, rel=0.1)
        assert line["train_router_z_loss"] == pytest.approx(two_layers, rel=0.2)
    none = tiny_recipe(MIXTURE, "model.mlp.balance_loss=0", "name=none")
    alone = metrics(start_run(none, tmp_path, say=quiet).run.path)[0]
    assert metrics(run.path)[0]["train_loss"] == alone["train_loss"]
    assert [name for name in alone if "balance" in name or "router" in name] == []


def load_biases(model: GPT) -> list[Tensor]:
    return [module.bias_X for module in model.modules() if isinstance(module, LoadBias)]


def test_portions_of_a_batch_move_the_bias_as_the_whole_batch_does(
    tiny_recipe: MakeRecipe, tmp_path: Path
):
    biases = {}
    for tokens in (8, 16, 32):
        portions = f"train.micro_batch_tokens={tokens}"
        recipe = tiny_recipe(MIXTURE, *BIAS, portions, f"name=portions-{tokens}")
        session = begin(recipe, tmp_path, quiet, "tiny")
        assert len(session.portions()) == 32 // tokens
        for _ in range(5):
            take_step(session)
        biases[tokens] = torch.stack(load_biases(session.model))
    assert torch.equal(biases[8], biases[32])
    assert torch.equal(biases[16], biases[32])
    steps = biases[32] / 0.001
    torch.testing.assert_close(steps, steps.round())
    assert 1 <= steps.abs().max() <= 5


def test_a_run_is_opened_with_its_bias(tiny_recipe: MakeRecipe, tmp_path: Path):
    run = start_run(tiny_recipe(MIXTURE, *BIAS), tmp_path, say=quiet).run
    opened = load(run.path)
    saved = [value for name, value in opened.model.state_dict().items() if "load_bias" in name]
    assert [bias.abs().max() > 0 for bias in saved] == [True, True]
    assert opened.generate("a", max_tokens=5, seed=1)
