"""After every step every matrix has vectors of length 1 along the embedding axis (nGPT)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ends import quiet

from gptlab.config import variant_names
from gptlab.model.gpt import GPT
from gptlab.parts.layers import Linear
from gptlab.train.loop import take_step
from gptlab.train.opening import begin, initial_model, source_of
from gptlab.train.optimizers import Optimizer
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

MakeRecipe = Callable[..., Recipe]
NGPT = (
    "model.positions=rotary",
    "model.norm=l2",
    "model.attention=normalized",
    "model.attention.n_heads=2",
    "model.attention.n_kv_heads=1",
    "model.mlp=normalized_swiglu",
    "model.residual=normalized",
    "model.head=token_scaled",
    "model.initialization=unit_norm",
)


def distance_from_the_sphere(model: GPT) -> float:
    """The largest difference from 1 of a length; rows, but columns of what writes to the stream."""
    distances = []
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and ".gain." not in name:
            writes = name.endswith(("attention.output.weight", "mlp.down.weight"))
            D = weight.shape[0 if writes else 1]
            assert D == 16, f"{name}: {weight.shape} has no embedding axis where it should"
            length = weight.norm(dim=0 if writes else 1)
            distances.append((length - 1).abs().max().item())
    assert len(distances) == 2 + 2 * 7
    return max(distances)


@pytest.mark.parametrize("optimizer", variant_names(Optimizer))
@pytest.mark.parametrize("portions", ["null", "8"])
def test_every_matrix_is_held_after_every_step(
    optimizer: str, portions: str, tiny_recipe: MakeRecipe, tmp_path: Path
):
    settings = (f"optimizer={optimizer}", "optimizer.lr=0.05", "optimizer.weight_decay=0")
    recipe = tiny_recipe(*NGPT, *settings, f"train.micro_batch_tokens={portions}")
    session = begin(recipe, tmp_path, quiet, "test")
    model = session.model
    assert distance_from_the_sphere(model) < 1e-6
    for _ in range(4):
        before = [p.detach().clone() for p in model.parameters()]
        take_step(session)
        assert distance_from_the_sphere(model) < 1e-6
        assert all((p - b).norm() > 1e-4 for p, b in zip(model.parameters(), before, strict=True))


def test_a_model_that_is_not_held_leaves_the_sphere(tiny_recipe: MakeRecipe, tmp_path: Path):
    session = begin(tiny_recipe(*NGPT), tmp_path, quiet, "test")
    session.model.hold = lambda model: None
    take_step(session)
    assert distance_from_the_sphere(session.model) > 1e-5


def test_weights_of_another_run_are_held_from_the_start(tiny_recipe: MakeRecipe, tmp_path: Path):
    free = tiny_recipe(*NGPT, "model.initialization=flat", "name=free", "train.steps=1")
    run = start_run(free, tmp_path, say=quiet).run.path
    held = tiny_recipe(*NGPT, f"train.init_from={run.as_posix()}", "name=held")
    source = source_of(held)
    assert source is not None
    recipe = held.with_vocab_size(source.tokenizer.vocab_size)
    assert distance_from_the_sphere(source.model) > 0.1
    model = initial_model(recipe, source, torch.device("cpu"))
    assert distance_from_the_sphere(model) < 1e-6


@torch.no_grad()
def test_what_mixes_streams_is_not_held(tiny_recipe: MakeRecipe):
    recipe = tiny_recipe("model.residual=hyper_connections", "model.initialization=unit_norm")
    model = recipe.build()
    mixing = [m for m in model.modules() if isinstance(m, Linear) and m.role == "mixing"]
    for module in mixing:
        module.weight.fill_(0.25)
    model.after_step()
    assert len(mixing) == 4
    assert all(module.weight.eq(0.25).all() for module in mixing)
