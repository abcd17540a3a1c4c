"""The chunked loss against torch's cross-entropy of whole logits: values and both gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from gptlab.kernels import linear_cross_entropy as kernel
from gptlab.kernels.linear_cross_entropy import linear_cross_entropy, linear_nats

N, D, V = 37, 8, 50


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CHUNK", 16)  # two whole ones and a rest
    monkeypatch.setattr(kernel, "AT_ONCE", 3 * V)


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_ND, weight_VD = (
        2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in [(N, D), (V, D)]
    )
    targets_N = torch.randint(V, (N,), generator=generator)
    targets_N[[0, 17, 36]] = -100
    return x_ND.to(dtype).requires_grad_(), weight_VD.to(dtype).requires_grad_(), targets_N


def whole(
    x: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, reduction: str = "sum"
) -> Tensor:
    logits = linear(x, weight)
    logits = softcap * (logits / softcap).tanh() if softcap else logits
    return cross_entropy(logits, targets, reduction=reduction)


def with_gradients(
    loss: Callable[..., Tensor], x: Tensor, weight: Tensor, targets: Tensor, softcap: float | None
) -> list[Tensor]:
    value = loss(x, weight, targets, softcap)
    return [value, *torch.autograd.grad(3 * value, [x, weight])]


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_the_loss_and_its_gradients(softcap: float | None):
    given = example()
    expected = with_gradients(whole, *given, softcap)
    for got, wanted in zip(
        with_gradients(linear_cross_entropy, *given, softcap), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("times", [1, 3])
def test_a_share_of_it(softcap: float | None, times: int):
    x, weight, targets = example()
    share = torch.tensor(1 / 34, dtype=torch.float64)
    mean = linear_cross_entropy(x, weight, targets, softcap, share)
    expected = whole(x, weight, targets, softcap, "mean")
    torch.testing.assert_close(mean, expected, rtol=1e-12, atol=0)
    for got, wanted in zip(
        torch.autograd.grad(times * mean, [x, weight]),
        torch.autograd.grad(times * expected, [x, weight]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("times", [1, 3])
def test_gradients_are_taken_once(times: int):
    """They are scaled in place: a second time would change what was given out before."""
    x, weight, targets = example()
    loss = times * linear_cross_entropy(x, weight, targets)
    torch.autograd.grad(loss, [x, weight], retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace operation"):
        torch.autograd.grad(loss, [x, weight])


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_every_target_by_itself(softcap: float | None):
    x, weight, targets = example()
    torch.testing.assert_close(
        linear_nats(x, weight, targets, softcap),
        whole(x, weight, targets, softcap, "none").detach(),
    )


def test_logits_too_large_to_exponentiate():
    x, weight, targets = example()
    x = (1000 * x.detach()).requires_grad_()
    expected = with_gradients(whole, x, weight, targets, None)
    for got, wanted in zip(
        with_gradients(linear_cross_entropy, x, weight, targets, None), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_under_autocast_products_round_and_nothing_else():
    x, weight, targets = example(torch.float32)
    exact = with_gradients(whole, x, weight, targets, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = with_gradients(linear_cross_entropy, x, weight, targets, None)
    assert [each.dtype for each in rounded] == [torch.float32] * 3
    for got, wanted in zip(rounded, exact, strict=True):
        error = (got - wanted).norm() / wanted.norm()
        assert 0 < error < 0.01
