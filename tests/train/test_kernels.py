"""Which kernels a run takes, and that they reach every module that holds the plain ones."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from gptlab.kernels import attention, gating
from gptlab.model.gpt import Model
from gptlab.train import kernels
from gptlab.train.kernels import choose_kernels, use_kernels
from gptlab.train.opening import begin
from gptlab.train.recipe import Recipe

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
