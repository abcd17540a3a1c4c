from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ends import assert_same_end
from torch import Tensor
from torch._dynamo.exc import Unsupported
from torch.autograd import Function

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
    compile_blocks(model)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens), twin(tokens))
    assert not calls
    assert torch.equal(model(tokens), twin(tokens))
    assert len(calls) == 3


class Failing(Function):
    """Changes nothing, and fails in its backward pass if it is told to."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fails: bool) -> Tensor:
        ctx.fails = fails
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.fails:
            raise Unsupported("a strange operation\nand a long explanation")
        return dx, None


PORTIONS = 4  # of a step; each calls two blocks


@pytest.mark.parametrize("number", [1, 2, PORTIONS * 2, PORTIONS * 2 * 3 + 4])
@pytest.mark.parametrize("is_backward", [False, True])
def test_what_cannot_be_compiled_goes_on_without(
    is_backward: bool,
    number: int,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The step in which it shows is taken again from its start: the end is that of no compiling."""
    calls = 0

    def compile(forward: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def form(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number and not is_backward:
                raise Unsupported("a strange operation\nand a long explanation")
            return Failing.apply(forward(*given), calls == number)

        return form

    monkeypatch.setattr(torch, "compile", compile)
    settings = (
        "model.dropout=0.3",
        "model.mlp={type: mixture_of_experts, n_experts: 6, load_bias_step: 0.01}",
        f"train.micro_batch_tokens={32 // PORTIONS}",
    )
    said: list[str] = []
    for choice in ("on", "off"):
        recipe = tiny_recipe(*settings, f"train.compile={choice}", f"name={choice}")
        start_run(recipe, tmp_path, say=said.append)
    (sentence,) = [text for text in said if "compile" in text]
    assert "a strange operation" in sentence
    assert "explanation" not in sentence
    assert number <= calls <= number + 2  # of the same pass at most
    assert_same_end(tmp_path / "on", tmp_path / "off")


def test_other_errors_are_not_hidden(tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch):
    def failing(forward: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def form(*given: Any) -> Any:
            raise RuntimeError("out of memory")

        return form

    monkeypatch.setattr(torch, "compile", failing)
    model = tiny_recipe().build()
    compile_blocks(model)
    with pytest.raises(RuntimeError, match="out of memory"):
        model(torch.arange(8)[None])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_run_ends_where_an_eager_one_does(
    as_if_large: Counter[str], tiny_recipe: MakeRecipe, tmp_path: Path
):
    """Blocks are compiled; the loss beside them is computed in chunks."""
    losses = {}
    for compile in ("on", "off"):
        recipe = tiny_recipe(f"train.compile={compile}", f"name={compile}", "train.steps=5")
        outcome = start_run(recipe, tmp_path, say=lambda text: None)
        assert outcome.run.environment()["kernels"] == {"on": ["inductor"], "off": []}[compile]
        losses[compile] = outcome.session.loss
    assert as_if_large["LinearCrossEntropy"] == 10  # of each step of both
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_backward_pass_that_torch_cannot_compile(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The forward pass is compiled as ever; then the compiler itself gives up."""
    from torch._functorch import config as functorch
    from torch._inductor import compile_fx
    from torch._inductor import config as inductor

    generate, passes = compile_fx.fx_codegen_and_compile, []

    def giving_up(*given: Any, **settings: Any) -> Any:
        passes.append(settings.get("is_backward", False))
        if passes[-1]:
            raise NotImplementedError("no code for this")
        return generate(*given, **settings)

    monkeypatch.setattr(compile_fx, "fx_codegen_and_compile", giving_up)
    torch.compiler.reset()
    said: list[str] = []
    nothing_cached = functorch.patch(enable_autograd_cache=False)
    with nothing_cached, inductor.patch(fx_graph_cache=False, compile_threads=1):
        outcome = start_run(tiny_recipe("train.compile=on", "name=on"), tmp_path, said.append)
    assert outcome.reason == "done"
    assert passes == [False, True]
    assert sum("no code for this" in text for text in said) == 1
    start_run(tiny_recipe("train.compile=off", "name=off"), tmp_path, say=lambda text: None)
    assert_same_end(tmp_path / "on", tmp_path / "off")
