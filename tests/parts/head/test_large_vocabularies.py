"""The loss without logits in memory is the loss with them, for every head and its settings."""

import pytest
import torch
from torch import Tensor

from gptlab.kernels import cross_entropy
from gptlab.parts.head import Head, LogitHead
from gptlab.parts.head.tied import Tied
from gptlab.parts.head.token_scaled import TokenScaled
from gptlab.parts.head.untied import Untied

HEADS = [
    Tied(),
    Tied(scale=0.5, softcap=4.0),
    Untied(),
    Untied(scale=2.0),
    TokenScaled(softcap=3.0),
]


def example(variant: Head) -> tuple[LogitHead, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    built = variant.build(8, 30).double()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter)
    x_BTD = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    embedding_VD = torch.randn(30, 8, dtype=torch.float64, requires_grad=True)
    targets_BT = torch.randint(30, (2, 5))
    targets_BT[0, 1] = -100
    return built, x_BTD, targets_BT, embedding_VD


@pytest.mark.parametrize("variant", HEADS, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_training(monkeypatch: pytest.MonkeyPatch, variant: Head, reduction: str):
    built, x, targets, embedding = example(variant)
    learned = [x, embedding, *built.parameters()]

    def loss_and_gradients() -> list[Tensor | None]:
        loss = built.loss(x, targets, embedding, reduction)
        return [loss, *torch.autograd.grad(loss, learned, allow_unused=True)]

    with_logits = loss_and_gradients()
    monkeypatch.setattr(cross_entropy, "MANY_LOGITS", 0)
    monkeypatch.setattr(cross_entropy, "linear", None)  # nothing may ask for logits any more
    torch.testing.assert_close(loss_and_gradients(), with_logits)


@pytest.mark.parametrize("variant", HEADS, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@torch.no_grad()
def test_evaluation(monkeypatch: pytest.MonkeyPatch, variant: Head, reduction: str):
    built, x, targets, embedding = example(variant)
    with_logits = built.loss(x, targets, embedding, reduction)
    monkeypatch.setattr(cross_entropy, "MANY_LOGITS", 0)
    monkeypatch.setattr(cross_entropy, "linear", None)
    torch.testing.assert_close(built.loss(x, targets, embedding, reduction), with_logits)


def test_the_gradient_of_every_target_by_itself(monkeypatch: pytest.MonkeyPatch):
    built, x, targets, embedding = example(Untied())
    monkeypatch.setattr(cross_entropy, "MANY_LOGITS", 0)
    assert built.loss(x, targets, embedding, "none").requires_grad
