"""Which kernels a run takes, and that they reach every module that holds the plain ones."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import pytest
import torch
from ends import quiet
from torch import Tensor

from gptlab.kernels import attention, gating
from gptlab.model.gpt import Model
from gptlab.runs.folder import RunFolder
from gptlab.train import kernels, opening, run
from gptlab.train.kernels import choose_kernels, use_kernels
from gptlab.train.opening import begin
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that these packages are installed, and no others."""

    def pretend(*packages: str) -> None:
        found = {name: SimpleNamespace() for name in packages}
        monkeypatch.setattr(kernels, "find_spec", found.get)

    return pretend


@pytest.mark.parametrize(("asked", "packages", "chosen"), [
    ("auto", ["triton", "liger_kernel"], ["flex", "liger"]),
    ("liger", ["triton", "liger_kernel"], ["flex", "liger"]),
    ("auto", ["triton"], ["flex"]),
    ("auto", [], []),
    ("torch", ["triton", "liger_kernel"], []),
])  # fmt: skip
def test_a_gpu_takes_what_is_installed(
    here: Callable[..., None], asked: str, packages: list[str], chosen: list[str]
):
    here(*packages)
    assert choose_kernels(asked, GPU) == chosen


@pytest.mark.parametrize("asked", ["auto", "torch"])
def test_a_cpu_takes_torch(here: Callable[..., None], asked: str):
    here("triton", "liger_kernel")
    assert choose_kernels(asked, CPU) == []


def test_what_is_missing_is_said_with_the_remedy(here: Callable[..., None]):
    here("triton", "liger_kernel")
    with pytest.raises(ValueError, match=r"liger needs an NVIDIA GPU.* cpu: use .*kernels=torch$"):
        choose_kernels("liger", CPU)
    here("triton")
    with pytest.raises(ValueError, match=r"not installed: pip install 'gptlab\[liger\]', or use"):
        choose_kernels("liger", GPU)


def test_another_maker_has_none_of_them(here: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    here("triton", "liger_kernel")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert choose_kernels("auto", GPU) == []


def test_nothing_is_made_of_a_run_that_is_refused(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
):
    with pytest.raises(ValueError, match=r"train\.kernels=liger needs"):
        begin(tiny_recipe("train.kernels=liger"), tmp_path / "runs", print, "tiny")
    assert not (tmp_path / "runs").exists()


class Compiler:
    """What stands for a kernel whose compiler fails: its code is of a module of Triton's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: str):
        def build(gate: Tensor, up: Tensor) -> Tensor:
            raise RuntimeError("Failed to find C compiler.\nPlease specify one")

        names = {"__name__": module, "__builtins__": __builtins__}
        failing = FunctionType(build.__code__, names)
        kernel = ModuleType("gptlab.kernels.failing")
        vars(kernel)["KERNELS"] = {gating.swiglu: failing}
        monkeypatch.setitem(sys.modules, kernel.__name__, kernel)
        for where in (opening, run):
            monkeypatch.setattr(where, "choose_kernels", lambda asked, device: self.chosen[asked])
        self.chosen = {"auto": ["failing"], "torch": []}


@pytest.mark.usefixtures("quick_disk")
def test_a_kernel_that_cannot_be_compiled_is_said_with_what_goes_on_without(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Compiler(monkeypatch, "triton.runtime.build")
    recipe = tiny_recipe("model.mlp=swiglu", "name=mine")
    said = r"^train\.kernels=auto: failing failed \(RuntimeError: Failed to find C compiler\.\); "
    with pytest.raises(ValueError, match=said + r"go on .*resume \S+mine train\.kernels=torch$"):
        start_run(recipe, tmp_path, say=quiet)
    assert RunFolder.open(tmp_path / "mine").state() == "failed"
    assert resume_run(tmp_path / "mine", ["train.kernels=torch"], say=quiet).reason == "done"


def test_other_errors_beside_kernels_stay_what_they_are(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Compiler(monkeypatch, "somebody.else")
    with pytest.raises(RuntimeError, match="Failed to find"):
        start_run(tiny_recipe("model.mlp=swiglu"), tmp_path, say=quiet)


@pytest.mark.parametrize(("raises", "is_theirs"), [("gptlab.ours", False), ("subprocess", True)])
def test_a_mistake_of_ours_in_compiled_code_is_not_the_compilers(raises: str, is_theirs: bool):
    def fail() -> None:
        raise KeyError("a mistake")

    def call(function: Callable[[], None]) -> None:
        function()

    inner = FunctionType(fail.__code__, {"__name__": raises, "__builtins__": __builtins__})
    theirs = FunctionType(call.__code__, {"__name__": "torch._dynamo.eval_frame"})
    ours = FunctionType(call.__code__, {"__name__": "gptlab.train.loop"})
    with pytest.raises(KeyError) as raised:
        ours(lambda: theirs(inner))
    assert run.is_of_a_compiler(raised.value) == is_theirs


def test_every_layer_gets_the_kernel_and_nothing_else_changes(
    tiny: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
):
    calls = 0

    def counted(gate: Tensor, up: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gating.swiglu(gate, up)

    module = ModuleType("gptlab.kernels.counted")
    vars(module)["KERNELS"] = {gating.swiglu: counted}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    gpt = tiny(mlp="swiglu", n_layers=3).build()
    tokens_BT = torch.arange(9)[None]
    before = gpt(tokens_BT)
    vars(module)["WAITING"] = {gating.swiglu}
    use_kernels(gpt, ["counted"], recorded=True)
    gpt(tokens_BT)
    assert calls == 0  # it could not be recorded
    use_kernels(gpt, ["counted"])
    assert torch.equal(gpt(tokens_BT), before)
    assert calls == 3
    assert all(each.attend is attention.attend for each in gpt.mixers())
