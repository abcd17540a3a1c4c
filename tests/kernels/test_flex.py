"""FlexAttention is `attention.attend`, in values and gradients.

On a CPU torch has the mathematics of FlexAttention without its kernels, and refuses gradients only
because those kernels have none: here it is asked for them all the same. On a GPU the kernels run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo import config as dynamo
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import flex_attention

from gptlab.kernels import attention, flex
from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.train.device import set_up
from gptlab.train.kernels import use_kernels

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
B, K, E, T = 2, 2, 16, 300

Calls = list[dict[str, Any]]
OF_THE_COMPILER = (  # what torch says of itself
    "The .grad attribute of a Tensor:UserWarning",
    "<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning",
    "`torch.jit:DeprecationWarning",
    "TensorFloat32 tensor cores:UserWarning",
)
pytestmark = [pytest.mark.filterwarnings(f"ignore:{each}") for each in OF_THE_COMPILER]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What FlexAttention is called with; its kernels are compiled on a GPU only."""
    noted: Calls = []
    compiled = flex.compiled
    set_up(DEVICE)

    def note(function: Callable[..., Any]) -> Callable[..., Any]:
        run = compiled(function) if ON_GPU else function

        def call(*arguments: Any, **given: Any) -> Any:
            noted.append({"function": function.__name__, **given})
            return run(*arguments, **given)

        return call

    monkeypatch.setattr(flex, "compiled", note)
    if not ON_GPU:
        monkeypatch.setattr(flex_attention, "_validate_device", lambda *x: None)
        monkeypatch.setattr(flex_attention, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    return noted


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def documents() -> Tensor:
    """Rows that are laid out differently, with short documents and long ones."""
    starts = torch.zeros(B, T, dtype=torch.long)
    starts[0, [1, 2, 90, 128, 131]] = 1
    starts[1, [200, 256]] = 1
    return starts.cumsum(1).to(DEVICE)


COUNTED, PACKED = "counted", "packed"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "window": (COUNTED, {"window": 50}),
    "window of a block": (COUNTED, {"window": 128}),
    "chunks": (COUNTED, {"chunk": 70}),
    "documents": (PACKED, {}),
    "documents in windows": (PACKED, {"window": 50}),
    "documents in chunks": (PACKED, {"chunk": 70}),
    "softcap": (COUNTED, {"softcap": 2.0}),
    "softcap in windows": (COUNTED, {"softcap": 2.0, "window": 50}),
    "another scale": (PACKED, {"scale": 0.7}),
    "sinks": (PACKED, {"sinks": True, "window": 50}),
}


def attended(attend: Callable[..., Tensor], where: str, given: dict[str, Any]) -> list[Tensor]:
    """Give what is read, and the gradients of queries, keys, values and sinks."""
    n = {"q": 2 * K, "k": K, "v": K}
    q, k, v = (draw(B, n[x], T, E, seed=i).requires_grad_() for i, x in enumerate("qkv"))
    sinks_H = draw(2 * K, seed=4).requires_grad_()
    places = Places.counted(0, T, DEVICE) if where == COUNTED else Places.packed(documents())
    settings = {name: value for name, value in given.items() if name != "sinks"}
    if "sinks" in given:
        settings["sinks_H"] = sinks_H
    y = attend(q, k, v, queries=places, keys=None, **settings)
    (y * draw(*y.shape, seed=5)).sum().backward()
    return [y.detach()] + [x.grad for x in (q, k, v, sinks_H) if x.grad is not None]


@pytest.mark.parametrize("case", CASES)
def test_flex_is_plain(calls: Calls, case: str):
    expected, found = attended(attention.attend, *CASES[case]), attended(flex.attend, *CASES[case])
    assert [call["function"] for call in calls] == ["create_block_mask", "flex_attention"]
    assert len(found) == len(expected) >= 4
    for e, f in zip(expected, found, strict=True):
        assert f.dtype == e.dtype
        torch.testing.assert_close(f, e, rtol=1e-5, atol=2e-5)


LEFT_TO_TORCH: dict[str, dict[str, Any]] = {
    "nothing to skip": {},
    "a window as long as the text": {"window": T},
    "dropout": {"window": 50, "dropout": 0.1},
    "a bias": {"window": 50, "bias": lambda distance: -0.1 * distance[..., None, :, :].float()},
}


@pytest.mark.parametrize("given", LEFT_TO_TORCH.values(), ids=list(LEFT_TO_TORCH))
def test_what_it_cannot_or_need_not_do_is_left_to_torch(calls: Calls, given: dict[str, Any]):
    torch.manual_seed(0)
    expected = attended(attention.attend, COUNTED, given)
    torch.manual_seed(0)
    found = attended(flex.attend, COUNTED, given)
    assert calls == []
    assert all(torch.equal(e, f) for e, f in zip(expected, found, strict=True))


def test_texts_shorter_than_a_block_are_left_to_torch(calls: Calls):
    q = draw(B, K, flex.BLOCK - 1, E, seed=0).requires_grad_()
    flex.attend(q, q, q, queries=Places.counted(0, flex.BLOCK - 1, DEVICE), keys=None, window=9)
    assert calls == []


def test_texts_of_all_lengths_that_are_not_learned_from_are_left_to_torch(calls: Calls):
    q = draw(B, K, T, E, seed=0)
    flex.attend(q, q, q, queries=Places.counted(0, T, DEVICE), keys=None, window=9)
    assert calls == []


def test_blocks_are_counted_once_for_all_layers_with_a_window(
    calls: Calls, tiny: Callable[..., Model]
):
    kinds = [{"type": "grouped_query", "n_heads": 3, "window": w} for w in (40, 40, 90)]
    settings = {"context_length": 256, "n_layers": 6, "positions": "rotary"}
    gpt = tiny(attention={"type": "alternating", "of": kinds}, **settings).build().to(DEVICE)
    tokens_BT = torch.arange(2 * 256, device=DEVICE).view(2, 256) % 31
    expected = gpt.loss(tokens_BT, tokens_BT)
    use_kernels(gpt, ["flex"])
    for _ in range(2):
        torch.testing.assert_close(gpt.loss(tokens_BT, tokens_BT), expected)
    made = [call["function"] for call in calls]
    assert made.count("flex_attention") == 2 * 6
    assert made.count("create_block_mask") == 2 * 2


def test_a_compiled_block_has_it_inside(
    tiny: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
):
    """In one piece with it, and torch has nothing to warn of."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *x: None)
    layer = {"type": "grouped_query", "n_heads": 3, "window": 40}
    settings = {"context_length": 256, "n_layers": 1, "positions": "rotary"}
    gpt = tiny(attention=layer, **settings).build().to(DEVICE)
    tokens_BT = torch.arange(2 * 256, device=DEVICE).view(2, 256) % 31
    expected = gpt.loss(tokens_BT, tokens_BT)
    use_kernels(gpt, ["flex"])
    (block,) = gpt.blocks
    block.forward = torch.compile(block.forward, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gpt.loss(tokens_BT, tokens_BT), expected)


def test_every_window_gets_kernels_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """Beyond so many forms torch would go on without, and hold all scores."""
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *x: None)
    made = CompileCounterWithBackend("eager")
    monkeypatch.setattr(flex, "compiled", partial(torch.compile, backend=made, dynamic=False))
    q = draw(1, 1, 128, E, seed=0).requires_grad_()
    with dynamo.patch(recompile_limit=1):
        set_up(torch.device("cuda"))
        for window in (20, 30):
            flex.attend(q, q, q, queries=Places.counted(0, 128, DEVICE), keys=None, window=window)
    assert made.frame_count == 2 * 2  # masks, and attention


def test_blocks_that_nobody_sees_are_skipped(calls: Calls):
    """8 blocks: those of a window of one block, and those of the documents' own blocks."""
    places = Places.counted(0, 1024, DEVICE)
    assert flex.block_mask(places, 128, None).sparsity() == pytest.approx(100 * (1 - 15 / 64))
    halves_BT = torch.arange(1024, device=DEVICE)[None] // 512
    blocks = flex.block_mask(Places.packed(halves_BT), None, None)
    assert blocks.sparsity() == pytest.approx(100 * (1 - 20 / 64))


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU")
def test_autocast_reaches_flex():
    x = draw(1, 2, 256, 64, seed=0).requires_grad_()
    places = Places.counted(0, 256, x.device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = flex.attend(x, x, x, queries=places, keys=None, window=100)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    expected = attention.attend(x, x, x, queries=places, keys=None, window=100)
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    assert x.grad is not None
    assert x.grad.isfinite().all()
