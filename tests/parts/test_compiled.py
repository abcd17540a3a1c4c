"""Compiled = eager, in the loss and in every gradient, for every variant of every slot.

One model per variant, traced whole: a part that torch cannot trace without a break fails here.
"""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from test_contracts import OTHER_SLOTS, Parts, label, text, variants
from test_contracts import build as build_with_effect
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention import Attention
from gptlab.parts.positions import Positions
from gptlab.parts.scaling import Scaling

Tiny = Callable[..., Model]

COMPUTING = {name: slot for name, slot in OTHER_SLOTS.items() if name != "initialization"}
CASES: list[Parts] = [
    {"attention": part, "positions": {"type": "rotary"}}
    for part in variants("attention", Attention)
]
CASES += [{"positions": part} for part in variants("positions", Positions)]
CASES += [{name: part} for name, slot in COMPUTING.items() for part in variants(name, slot)]
CASES += [
    {"positions": {"type": "rotary", "scaling": part}} for part in variants("scaling", Scaling)
]

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own


@pytest.fixture(autouse=True)
def compiler(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("needs a C++ compiler, which torch.compile calls")
    torch.compiler.reset()
    caplog.set_level(logging.WARNING, "torch.__trace")  # thousands of lines beside a failure
    with inductor.patch(compile_threads=1):  # tests run in parallel already
        yield


def build(tiny: Tiny, parts: Parts) -> GPT:
    """Build the smallest model that has this part: one layer, or two where one is refused."""
    try:
        return build_with_effect(tiny, parts | {"n_layers": 1})
    except ValueError:
        return build_with_effect(tiny, parts)


def loss_and_gradients(gpt: GPT) -> dict[str, Tensor]:
    device = gpt.embedding.weight.device
    loss = gpt.loss(text().to(device), text().roll(-1, dims=1).to(device))
    gpt.zero_grad()
    loss.backward()
    gradients = {name: p.grad for name, p in gpt.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """How far each tensor is from the exact one, as a part of its size."""
    assert found.keys() == exact.keys()
    sizes = {name: x.norm().clamp(min=1e-6) for name, x in exact.items()}
    return {name: ((found[name] - exact[name]).norm() / sizes[name]).item() for name in exact}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("parts", CASES, ids=label)
def test_compiled_is_eager(tiny: Tiny, parts: Parts, device: str):
    """Both are float32, and as near to the exact numbers."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    gpt = build(tiny, parts).train().to(device)
    exact = loss_and_gradients(deepcopy(gpt).double())
    eager = errors(loss_and_gradients(gpt), exact)
    gpt.loss = torch.compile(gpt.loss, fullgraph=True)
    compiled = errors(loss_and_gradients(gpt), exact)
    print("ZZ", label(parts), max(eager.values()), max(compiled.values()), max((compiled[n]-2e-6)/(eager[n]+1e-12) for n in eager))
    wrong = {name: error for name, error in compiled.items() if error > 2e-6 + 4 * eager[name]}
    assert wrong == {}
