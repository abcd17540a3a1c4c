from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptlab.model.block import Block
from gptlab.recipes import find_recipe
from gptlab.train.compiling import compile_blocks, should_compile
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

MakeRecipe = Callable[..., Recipe]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "settings", "device", "expected"),
    [
        ("gpt2", ("train.compile=on",), CPU, True),
        ("gpt2", ("train.compile=off",), GPU, False),
        ("gpt2", (), CPU, False),
        ("gpt2", ("train.tokens=1e9",), GPU, True),
        ("gpt2", ("train.tokens=1e6",), GPU, False),
        ("gpt2", ("train.tokens=1e9", "train.cuda_graphs=true"), GPU, False),
    ],
)
def test_auto_is_for_long_runs_on_a_gpu(
    name: str, settings: tuple[str, ...], device: torch.device, expected: bool
):
    tokens = [each.replace("1e9", "1000000000").replace("1e6", "1000000") for each in settings]
    recipe = find_recipe(name).override(["train.steps=null", "train.tokens=1000000", *tokens])
    said: list[str] = []
    assert should_compile(recipe, device, said.append) == expected
    assert bool(said) == (expected and "train.compile=on" not in settings)


def test_training_passes_are_compiled_and_no_others(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    """One function for all blocks; `compile` is replaced by one that counts."""
    calls: list[Any] = []

    def counting(forward: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        assert forward is Block.forward
        return lambda *given: calls.append(given) or forward(*given)

    monkeypatch.setattr(torch, "compile", counting)
    model, twin = (tiny_recipe("model.n_layers=3").build() for _ in range(2))
    compile_blocks(model, pytest.fail)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens), twin(tokens))
    assert not calls
    assert torch.equal(model(tokens), twin(tokens))
    assert len(calls) == 3


def test_what_cannot_be_compiled_goes_on_without(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    from torch._dynamo.exc import Unsupported

    def failing(forward: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def form(*given: Any) -> Any:
            raise Unsupported("a strange operation\nand a long explanation")

        return form

    monkeypatch.setattr(torch, "compile", failing)
    model, twin = (tiny_recipe("model.n_layers=3").build() for _ in range(2))
    said: list[str] = []
    compile_blocks(model, said.append)
    tokens = torch.arange(8)[None]
    for _ in range(2):
        assert torch.equal(model(tokens), twin(tokens))
    (sentence,) = said
    assert "a strange operation" in sentence
    assert "explanation" not in sentence


def test_other_errors_are_not_hidden(tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch):
    def failing(forward: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def form(*given: Any) -> Any:
            raise RuntimeError("out of memory")

        return form

    monkeypatch.setattr(torch, "compile", failing)
    model = tiny_recipe().build()
    compile_blocks(model, pytest.fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(torch.arange(8)[None])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_run_ends_where_an_eager_one_does(tiny_recipe: MakeRecipe, tmp_path: Path):
    losses = {}
    for compile in ("on", "off"):
        recipe = tiny_recipe(f"train.compile={compile}", f"name={compile}", "train.steps=5")
        outcome = start_run(recipe, tmp_path, say=lambda text: None)
        assert outcome.run.environment()["kernels"] == {"on": ["inductor"], "off": []}[compile]
        losses[compile] = outcome.session.loss
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-4)
