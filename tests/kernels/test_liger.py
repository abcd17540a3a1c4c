"""Liger's kernels are the plain functions, in values and gradients; on a CPU by an interpreter.

    TRITON_INTERPRET=1 pytest tests/kernels/test_liger.py        (on a GPU: without the variable)

Triton's interpreter runs a kernel's Python on NumPy arrays. What that shows is the mathematics and
the places in memory that are read and written; not what a compiler makes of it, how fast it is, or
how bfloat16 rounds, of which NumPy knows nothing: float16 stands for it here. What the interpreter
lacks is added below: numbers as arguments, and two functions of a GPU's own library.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gptlab.kernels import cross_entropy, gating, rms_norm, rotation
from gptlab.model.gpt import GPT, Model
from gptlab.train.kernels import use_kernels

# pyright: reportMissingImports=false
pytest.importorskip("liger_kernel")
ON_GPU = torch.cuda.is_available()
if not ON_GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs an NVIDIA GPU, or TRITON_INTERPRET=1", allow_module_level=True)
DEVICE = "cuda" if ON_GPU else "cpu"
TOLERANCE = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the largest
LOW = torch.bfloat16 if ON_GPU else torch.float16


@pytest.fixture(scope="module")
def liger() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        if not ON_GPU:
            complete_the_interpreter(patch)
        from gptlab.kernels import liger

        yield liger


def complete_the_interpreter(patch: pytest.MonkeyPatch) -> None:
    import triton.language as tl
    from liger_kernel.ops import cross_entropy, geglu, rms_norm
    from triton.runtime import interpreter

    convert = interpreter._implicit_cvt

    def convert_numbers_too(argument: Any) -> Any:
        if not isinstance(argument, float):
            return convert(argument)
        number = np.array([argument], dtype=np.float32)
        return tl.tensor(interpreter.TensorHandle(number, tl.float32), tl.float32)

    patch.setattr(interpreter, "_implicit_cvt", convert_numbers_too)
    patch.setattr(rms_norm, "rsqrt", lambda x: tl.rsqrt(x))
    for module in (geglu, cross_entropy):
        patch.setattr(module, "tanh", lambda x: 2 * tl.sigmoid(2 * x) - 1)


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def angles(T: int, R: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    angle_1T1F = draw(1, T, 1, R // 2, seed=9)
    angle_1T1R = torch.cat([angle_1T1F, angle_1T1F], dim=-1)
    return angle_1T1R.cos().to(dtype), angle_1T1R.sin().to(dtype)


def rotate(rotate_half: Callable[..., Tensor], x_BTHE: Tensor) -> Tensor:
    return rotate_half(x_BTHE, *angles(x_BTHE.shape[1], 8, x_BTHE.dtype))


def loss(
    matrix_losses: Callable[..., Any], x_ND: Tensor, weight_VD: Tensor, **given: Any
) -> Tensor:
    targets_N = torch.arange(len(x_ND), device=DEVICE) * 7 % len(weight_VD)
    targets_N[3] = -100
    return torch.stack(list(matrix_losses(x_ND, weight_VD, targets_N, **given).values()))


def of(name: str) -> Callable[..., Any]:
    """Find the plain function of this name."""
    modules = (rms_norm, rotation, gating, cross_entropy)
    return next(vars(module)[name] for module in modules if name in vars(module))


def gate(gating: Callable[..., Tensor], *projections: Tensor) -> Tensor:
    return gating(*(1.0 * each for each in projections))  # which nobody else reads


def with_gain(function: Callable[..., Any], x: Tensor, weight: Tensor, offset: float) -> Tensor:
    return function(x, weight, 1e-2, offset)


CASES: dict[str, tuple[str, Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "rms_norm as Gemma": ("gain_then_round", partial(with_gain, offset=1.0), [(2, 5, 24), (24,)]),
    "rms_norm as Llama": ("round_then_gain", partial(with_gain, offset=0.0), [(2, 5, 24), (24,)]),
    "rms_norm of many heads": (
        "gain_then_round",
        partial(with_gain, offset=0.0),
        [(2, 5, 3, 8), (8,)],
    ),
    "rms_norm without a gain": (
        "gain_then_round",
        lambda f, x: f(x, None, 1e-2, 0.0),
        [(2, 5, 24)],
    ),
    "swiglu": ("swiglu", gate, [(2, 5, 24), (2, 5, 24)]),
    "geglu": ("geglu", gate, [(2, 5, 24), (2, 5, 24)]),
    "rotation of whole heads": ("rotate_half", rotate, [(2, 5, 3, 8)]),
    "rotation of parts of heads": ("rotate_half", rotate, [(2, 5, 3, 12)]),
    "loss": ("matrix_losses", loss, [(40, 8), (31, 8)]),
    "loss, capped": ("matrix_losses", partial(loss, softcap=2.0), [(40, 8), (31, 8)]),
    "loss with z-loss": ("matrix_losses", partial(loss, z_weight=0.3), [(40, 8), (31, 8)]),
    "loss of all": (
        "matrix_losses",
        partial(loss, reduction="sum", softcap=2.0, z_weight=0.3),
        [(40, 8), (31, 8)],
    ),
}


def values_and_gradients(
    function: Callable[..., Any],
    use: Callable[..., Tensor],
    shapes: list[tuple[int, ...]],
    dtype: torch.dtype,
) -> list[Tensor]:
    """Give what comes out, and the gradients of what goes in, where others read that too."""
    inputs = [draw(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = use(function, *leaves)
    weights = draw(*y.shape, seed=5) if y.dim() > 1 else torch.full_like(y, 0.7)
    (y.float() * weights.float()).sum().backward()
    assert all(torch.equal(x, leaf) for x, leaf in zip(inputs, leaves, strict=True))
    return [y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float32, LOW], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_fused_is_plain(liger: ModuleType, case: str, dtype: torch.dtype):
    name, use, shapes = CASES[case]
    expected = values_and_gradients(of(name), use, shapes, dtype)
    found = values_and_gradients(vars(liger)[name], use, shapes, dtype)
    assert len(found) == len(expected) == 1 + len(shapes)
    for e, f in zip(expected, found, strict=True):
        assert f.dtype == e.dtype
        assert (f - e).abs().max() <= TOLERANCE[dtype] * e.abs().max()


def test_every_kernel_is_compared(liger: ModuleType):
    assert {f.__name__ for f in liger.KERNELS} == {name for name, _, _ in CASES.values()}
    assert all(plain is of(plain.__name__) for plain in liger.KERNELS)


MODELS: dict[str, dict[str, Any]] = {
    "llama": {"mlp": "swiglu"},
    "gemma": {
        "norm": {"type": "rms_norm", "offset": True},
        "residual": "sandwich",  # both branches of a sum read one gradient
        "mlp": "geglu",
        "head": {"type": "tied", "softcap": 3.0, "z_loss": 0.3},
    },
    "qwen": {
        "norm": {"type": "rms_norm", "cast": "llama"},
        "attention": {
            "type": "grouped_query",
            "n_heads": 4,
            "n_kv_heads": 2,
            "qk_norm": "rms_norm",
        },
        "multi_token": {"depth": 1},
        "head": {"type": "untied", "scale": 0.5},
    },
    "latent": {"attention": {"type": "latent", "n_heads": 2, "d_latent": 12, "d_rope": 8}},
    "differential": {"attention": {"type": "differential", "n_heads": 2}},
    "experts": {"mlp": {"type": "mixture_of_experts", "n_experts": 4, "top_k": 2}},
}


def losses_and_gradients(gpt: GPT) -> dict[str, Tensor]:
    tokens_BT = torch.arange(2 * 9, device=DEVICE).view(2, 9) * 5 % 31
    losses = gpt.losses(tokens_BT, tokens_BT.roll(-1, dims=1))
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in gpt.named_parameters() if p.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()} | gradients


def built(tiny: Callable[..., Model], settings: dict[str, Any]) -> GPT:
    gpt = tiny(**{"positions": "rotary", "norm": "rms_norm"} | settings).build().to(DEVICE)
    with torch.no_grad():
        for (
            parameter
        ) in gpt.parameters():  # no weight starts as a constant: mistakes would not show
            parameter.add_(0.05 * draw(*parameter.shape, seed=parameter.numel()))
    return gpt


@pytest.mark.parametrize("settings", MODELS.values(), ids=list(MODELS))
def test_a_model_learns_the_same_with_fused_kernels(
    liger: ModuleType, tiny: Callable[..., Model], settings: dict[str, Any]
):
    plain, fused = built(tiny, settings), built(tiny, settings)
    use_kernels(fused, ["liger"])
    expected, found = losses_and_gradients(plain), losses_and_gradients(fused)
    assert found.keys() == expected.keys()
    for name, e in expected.items():
        torch.testing.assert_close(found[name], e, rtol=1e-4, atol=2e-6, msg=name)


def test_a_gradient_that_two_branches_read_would_be_spoilt_in_place(
    liger: ModuleType, tiny: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
):
    """The mistake that `in_place` would be, which is the package's default."""
    norm = liger.LigerRMSNormFunction

    def in_place(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
        return norm.apply(x, weight, eps, offset, "gemma", True)

    plain, fused = built(tiny, MODELS["gemma"]), built(tiny, MODELS["gemma"])
    monkeypatch.setitem(liger.KERNELS, rms_norm.gain_then_round, in_place)
    use_kernels(fused, ["liger"])
    expected, found = losses_and_gradients(plain), losses_and_gradients(fused)
    assert any((found[name] - e).abs().max() > 1e-3 for name, e in expected.items())
