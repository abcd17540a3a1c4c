"""The validation loss: each token but the first once, whatever is computed at once."""

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gptlab.evaluate import validation
from gptlab.evaluate.validation import bits_per_byte, perplexity, validation_loss
from gptlab.kernels.cross_entropy import logit_losses
from gptlab.model.gpt import GPT, Model

V, T = 31, 24

Tiny = Callable[..., Model]


def text(n_tokens: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, n_tokens).astype(np.uint16)


@torch.no_grad()
def one_by_one(model: GPT, tokens: np.ndarray) -> float:
    """The same by its definition: predict every token from those of its window before it."""
    losses = []
    for t in range(1, len(tokens)):
        start = (t - 1) // T * T
        seen_1T = torch.from_numpy(tokens[None, start:t].astype(np.int64))
        logits_V = model(seen_1T)[0, -1].double()
        losses.append(-logits_V.log_softmax(0)[int(tokens[t])].item())
    return math.fsum(losses) / len(losses)


@pytest.fixture
def gpt(tiny: Tiny) -> GPT:
    model = tiny(dropout=0.5, initialization={"type": "gpt2", "scale": 0.3}).build()
    assert (model.context_length, model.embedding.num_embeddings) == (T, V)
    return model.train()


@pytest.mark.parametrize("n_tokens", [2, T, T + 1, T + 2, 2 * T + 1, 9 * T + 6])
def test_every_token_but_the_first_is_predicted_once(n_tokens: int, gpt: GPT):
    tokens = text(n_tokens)
    loss = validation_loss(gpt, tokens)
    assert loss == pytest.approx(one_by_one(gpt.eval(), tokens), rel=1e-6)


@pytest.mark.parametrize("n_tokens", [2, T + 1, 5 * T, 9 * T + 6, 16 * T + 1])
def test_the_loss_does_not_depend_on_how_much_is_computed_at_once(n_tokens: int, gpt: GPT):
    tokens = text(n_tokens)
    expected = validation_loss(gpt, tokens)
    for rows in (1, 2, 4, 8, 100):
        assert validation_loss(gpt, tokens, rows) == pytest.approx(expected, rel=1e-6)


def test_what_is_predicted_from_what(gpt: GPT, monkeypatch: pytest.MonkeyPatch):
    """Positions 1 to n-1 are targets, each once; its input is the position before."""
    seen: list[tuple[int, int]] = []

    def loss(x_BT: Tensor, y_BT: Tensor, reduction: str, places: None) -> Tensor:
        assert x_BT.shape[1] <= T
        assert reduction == "none"
        seen.extend(zip(x_BT.flatten().tolist(), y_BT.flatten().tolist(), strict=True))
        return torch.zeros(y_BT.numel())

    monkeypatch.setattr(gpt, "loss", loss)
    for rows in (1, 2, 3, 100):
        seen.clear()
        validation_loss(gpt, np.arange(5 * T + 7), rows)
        assert seen == [(t, t + 1) for t in range(5 * T + 6)]


def test_losses_are_added_up_in_float64(gpt: GPT, monkeypatch: pytest.MonkeyPatch):
    """In float32 there is no 2^24 + 23: small losses after a large one would be lost."""
    losses = torch.tensor([2.0**24] + [1.0] * (T - 1))
    monkeypatch.setattr(gpt, "loss", lambda x_BT, y_BT, reduction, places: losses)
    assert validation_loss(gpt, text(100 * T + 1), rows=1) == (2**24 + T - 1) / T


@pytest.mark.parametrize(
    ("bound", "largest"), [("LOGITS_AT_ONCE", 3 * T * V + 1), ("TOKENS_AT_ONCE", 3 * T + 1)]
)
def test_memory_and_caches_bound_how_much_is_computed_at_once(
    bound: str, largest: int, gpt: GPT, monkeypatch: pytest.MonkeyPatch
):
    rows: list[int] = []
    loss = gpt.loss

    def counted(x_BT: Tensor, y_BT: Tensor, reduction: str, places: None) -> Tensor:
        rows.append(len(x_BT))
        return loss(x_BT, y_BT, reduction)

    monkeypatch.setattr(gpt, "loss", counted)
    monkeypatch.setattr(validation, bound, largest)
    validation_loss(gpt, text(8 * T + 5))
    assert rows == [3, 3, 2, 1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stopped_after", [0, 2, None])
def test_dropout_is_off_and_the_mode_restored(
    training: bool, stopped_after: int | None, gpt: GPT, monkeypatch: pytest.MonkeyPatch
):
    gpt.train(training)
    asked, loss = count(), gpt.loss

    def checked(*given: Tensor, reduction: str, places: None) -> Tensor:
        assert not any(module.training for module in gpt.modules())
        assert not torch.is_grad_enabled()
        return loss(*given, reduction=reduction)

    monkeypatch.setattr(gpt, "loss", checked)
    result = validation_loss(gpt, text(5 * T), 1, stop=lambda: next(asked) == stopped_after)
    assert (result is None) == (stopped_after is not None)
    assert all(module.training == training for module in gpt.modules())


def test_the_mode_is_restored_after_an_error(gpt: GPT, monkeypatch: pytest.MonkeyPatch):
    def fail(*given: object, **named: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(gpt, "loss", fail)
    with pytest.raises(RuntimeError):
        validation_loss(gpt, text(100))
    assert gpt.training


def test_an_evaluation_draws_no_random_numbers_and_leaves_no_gradient(gpt: GPT):
    before = torch.get_rng_state()
    assert validation_loss(gpt, text(100)) == validation_loss(gpt, text(100))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in gpt.parameters())


@pytest.fixture
def answering(gpt: GPT, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], GPT]:
    """Make a model that gives every token the same scores everywhere."""

    def make(scores_V: Tensor) -> GPT:
        def losses(x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *given: Any) -> Any:
            *_, reduction = given
            return logit_losses(scores_V.expand(len(x_ND), -1), targets_N, 0.0, reduction)

        monkeypatch.setattr(gpt.head, "matrix_losses", losses)
        return gpt

    return make


def test_a_uniform_model_over_bytes_has_the_bits_that_it_must(
    answering: Callable[[Tensor], GPT],
):
    """log2(V) bits for each token that is predicted, over the bytes of the text (F26)."""
    tokens, n_bytes = text(1000), 1500
    loss = validation_loss(answering(torch.zeros(V)), tokens)
    assert loss == pytest.approx(math.log(V), rel=1e-6)
    assert loss is not None
    bits = bits_per_byte(loss, len(tokens) - 1, n_bytes)
    assert bits == pytest.approx(math.log2(V) * 999 / n_bytes, rel=1e-6)


def test_a_model_that_knows_the_frequencies_has_their_entropy(
    answering: Callable[[Tensor], GPT],
):
    tokens = text(2000)
    counts = np.bincount(tokens[1:], minlength=V)
    share = counts / counts.sum()
    loss = validation_loss(answering(torch.from_numpy(share).log().float()), tokens)
    assert loss == pytest.approx(-(share * np.log(share)).sum(), rel=1e-6)


def test_a_model_that_is_sure_and_right_loses_nothing(answering: Callable[[Tensor], GPT]):
    scores_V = torch.full((V,), -100.0)
    scores_V[7] = 100.0
    assert validation_loss(answering(scores_V), np.full(100, 7)) == 0.0
    wrong = np.full(101, 7)
    wrong[50] = 8
    assert validation_loss(answering(scores_V), wrong) == pytest.approx(200 / 100)


def test_a_broken_model_is_not_called_good(answering: Callable[[Tensor], GPT]):
    loss = validation_loss(answering(torch.full((V,), float("nan"))), text(100))
    assert loss is not None
    assert math.isnan(loss)


@pytest.mark.parametrize(("nats", "tokens", "n_bytes", "bits"), [
    (math.log(2), 100, 100, 1.0),
    (math.log(256), 100, 100, 8.0),
    (math.log(256), 100, 400, 2.0),
    (0.0, 100, 100, 0.0),
])  # fmt: skip
def test_bits_per_byte(nats: float, tokens: int, n_bytes: int, bits: float):
    assert bits_per_byte(nats, tokens, n_bytes) == pytest.approx(bits)


def test_perplexity_of_even_odds_is_their_number():
    assert perplexity(math.log(257)) == pytest.approx(257)
    assert perplexity(1e4) < float("inf")
