"""Compiled = eager, in the losses and in every gradient, for every variant of every slot.

One small model per variant, traced whole: a part that torch cannot trace without a break fails.
Code is made and run for each variant by its name; other settings, which lead through the same
kernels, are traced with their gradients and run by torch's own operations, a tenth of the time.
"""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from test_contracts import (
    LOCAL,
    OTHER_SLOTS,
    SETTINGS_WORTH_IT,
    Parts,
    build,
    go_together,
    label,
    text,
    variants,
)
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention import Attention
from gptlab.parts.positions import Positions
from gptlab.parts.scaling import Scaling

Tiny = Callable[..., Model]

SLOTS = {"attention": Attention, "positions": Positions, "scaling": Scaling} | {
    name: slot for name, slot in OTHER_SLOTS.items() if name != "initialization"
}
OPTIONS = LOCAL | {
    "qk_norm": "rms_norm",
    "softcap": 2.0,
    "sinks": True,
    "gate": "elementwise",
    "value_residual": True,
}


IN_PIECES = {"mixture_of_experts"}  # shapes follow from how many tokens an expert gets


def place(slot: str, part: Parts) -> Parts:
    """Put a part into a model, an attention beside rotations if it takes them."""
    if slot == "scaling":
        return {"positions": {"type": "rotary", "scaling": part}}
    if slot == "attention":
        rotary = {"type": "rotary"}
        return {slot: part, "positions": rotary if go_together(part, rotary) else {"type": "none"}}
    return {slot: part}


SETTINGS = [place(slot, part) for slot in SLOTS for part in SETTINGS_WORTH_IT.get(slot, [])]
VARIANTS = [place(slot, part) for slot, kind in SLOTS.items() for part in variants(slot, kind)]
VARIANTS = [part for part in VARIANTS if part not in SETTINGS] + [place("attention", OPTIONS)]

pytestmark = [  # torch warns of what it does itself
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),  # off on purpose
]


@pytest.fixture(autouse=True)
def afresh(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    torch.compiler.reset()
    caplog.set_level(logging.WARNING, "torch.__trace")  # thousands of lines beside a failure
    with inductor.patch(compile_threads=1):  # tests run in parallel already
        yield


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("needs a C++ compiler, which torch.compile calls")
    return request.param


def smallest(tiny: Tiny, parts: Parts) -> GPT:
    """Build a model of one layer, or of two where one is refused."""
    try:
        return build(tiny, parts | {"n_layers": 1}).train()
    except ValueError:
        return build(tiny, parts).train()


def losses_and_gradients(gpt: GPT) -> dict[str, Tensor]:
    device = gpt.embedding.weight.device
    losses = gpt.losses(text().to(device), text().roll(-1, dims=1).to(device))
    gpt.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in gpt.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()} | gradients


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """How far each tensor is from the exact one, as a part of its size."""
    assert found.keys() == exact.keys()
    sizes = {name: x.norm().clamp(min=1e-6) for name, x in exact.items()}
    return {name: ((found[name] - exact[name]).norm() / sizes[name]).item() for name in exact}


def worse(compiled: dict[str, float], eager: dict[str, float]) -> dict[str, float]:
    """What is farther from the exact numbers than another order of sums makes it.

    The worst of eager's errors is the measure: a gradient in which much cancels may be exact in one
    order by chance.
    """
    limit = 2e-6 + 4 * max(eager.values())
    return {name: error for name, error in compiled.items() if error > limit}


def apart(gpt: GPT, parts: Parts, backend: str) -> dict[str, float]:
    """Find where compiled is worse than eager; both are float32, and near to the exact numbers."""
    exact = losses_and_gradients(deepcopy(gpt).double())
    eager = errors(losses_and_gradients(gpt), exact)
    in_pieces = parts.get("mlp", {}).get("type") in IN_PIECES
    gpt.losses = torch.compile(gpt.losses, fullgraph=not in_pieces, backend=backend)
    return worse(errors(losses_and_gradients(gpt), exact), eager)


@pytest.mark.parametrize("parts", VARIANTS, ids=label)
def test_compiled_is_eager(tiny: Tiny, parts: Parts, device: str):
    assert apart(smallest(tiny, parts).to(device), parts, "inductor") == {}


@pytest.mark.parametrize("parts", SETTINGS, ids=label)
def test_traced_is_eager(tiny: Tiny, parts: Parts):
    assert apart(build(tiny, parts).train(), parts, "aot_eager_decomp_partition") == {}


def test_a_gradient_that_is_off_by_a_little_is_seen(tiny: Tiny):
    gpt = build(tiny, {}).train()
    exact = losses_and_gradients(deepcopy(gpt).double())
    eager = losses_and_gradients(gpt)
    name = "blocks.0.mlp.up.weight"
    spoiled = eager | {name: eager[name] * (1 + 1e-5)}
    assert list(worse(errors(spoiled, exact), errors(eager, exact))) == [name]
