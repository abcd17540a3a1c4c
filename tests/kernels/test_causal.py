"""Attention in blocks against float64 and the plain equations, values and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels import causal
from gptlab.kernels.causal import causal_attention


def by_the_book(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None = None) -> Tensor:
    scores = scale * torch.einsum("rgte,rse->rgts", q, k)
    distance = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[1])
    hidden = (distance < 0) | (distance >= (window or q.shape[2]))
    return torch.einsum("rgts,rsf->rgtf", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


def inputs(T: int, G: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, G, T, 8), (2, T, 8), (2, T, 6)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def with_gradients(
    attention: Callable[..., Tensor], inputs: list[Tensor], dy: Tensor, window: int | None = None
) -> list[Tensor]:
    y = attention(*inputs, 0.3, window)
    return [y, *torch.autograd.grad(y, inputs, dy)]


@pytest.mark.parametrize("kept", [0, 10**9])
@pytest.mark.parametrize("window", [None, 1, 3, 16, 17, 30, 50])
@pytest.mark.parametrize("G", [1, 3])
@pytest.mark.parametrize("T", [1, 5, 16, 17, 40])
def test_it_is_attention(
    monkeypatch: pytest.MonkeyPatch, T: int, G: int, window: int | None, kept: int
):
    monkeypatch.setattr(causal, "BLOCK", 16)
    monkeypatch.setattr(causal, "KEPT_SCORES", kept)
    given = inputs(T, G, torch.float64)
    dy = torch.randn(2, G, T, 6, dtype=torch.float64)
    expected = with_gradients(by_the_book, given, dy, window)
    got_all = with_gradients(causal_attention, given, dy, window)
    for got, wanted in zip(got_all, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10)


def n_kept(given: list[Tensor], window: int | None = None) -> int:
    q, k, v = given
    node: Any = causal_attention(q, k, v, 0.3, window).grad_fn
    return sum(x.numel() for x in node.saved_tensors) - sum(x.numel() for x in given)


def test_weights_are_kept_of_few_tokens_whoever_they_belong_to(monkeypatch: pytest.MonkeyPatch):
    """Rows, heads and length count alike: so many scores of a layer, and none beyond."""
    monkeypatch.setattr(causal, "BLOCK", 16)
    monkeypatch.setattr(causal, "KEPT_SCORES", 2 * 3 * 40 * 40)
    of_a_head = 16 * 16 + 16 * 32 + 8 * 40
    assert n_kept(inputs(40, 3, torch.float32)) == 2 * 3 * of_a_head
    assert n_kept(inputs(41, 3, torch.float32)) == 0
    assert n_kept(inputs(40, 4, torch.float32)) == 0
    assert n_kept([x.repeat_interleave(2, 0) for x in inputs(40, 3, torch.float32)]) == 0
    assert n_kept(inputs(80, 3, torch.float32), window=20) > 0


def test_bfloat16_rounds_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(causal, "BLOCK", 16)
    given = inputs(64, 2, torch.bfloat16)
    dy = torch.randn(2, 2, 64, 6).bfloat16()
    exact = with_gradients(by_the_book, [x.double() for x in given], dy.double())
    for got, wanted in zip(with_gradients(causal_attention, given, dy), exact, strict=True):
        assert (got - wanted).norm() < 0.01 * wanted.norm()


def test_inputs_that_are_views(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(causal, "BLOCK", 4)
    q, k, v = (
        x.detach().transpose(-1, -2).contiguous().transpose(-1, -2)
        for x in inputs(9, 2, torch.float64)
    )
    torch.testing.assert_close(causal_attention(q, k, v, 0.3), by_the_book(q, k, v, 0.3))
