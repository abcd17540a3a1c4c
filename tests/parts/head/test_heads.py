from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT, Model

Tiny = Callable[..., Model]


def tokens(B: int = 2, T: int = 9) -> Tensor:
    return torch.randint(31, (B, T), generator=torch.Generator().manual_seed(0))


def with_same_weights(tiny: Tiny) -> tuple[GPT, GPT]:
    """A tied model, and an untied one whose head equals its embedding."""
    tied, untied = tiny(head="tied").build(), tiny(head="untied").build()
    untied.load_state_dict(
        tied.state_dict() | {"head.matrix.weight": tied.embedding.weight.detach()}
    )
    return tied, untied


def test_a_tied_head_scores_with_the_embedding(tiny: Tiny):
    tied, untied = with_same_weights(tiny)
    torch.testing.assert_close(tied(tokens()), untied(tokens()))
    with torch.no_grad():
        untied.get_parameter("head.matrix.weight").mul_(2)
    torch.testing.assert_close(2 * tied(tokens()), untied(tokens()))


def test_a_tied_embedding_gets_the_gradients_of_both_uses(tiny: Tiny):
    tied, untied = with_same_weights(tiny)
    for gpt in (tied, untied):
        gpt.loss(tokens(), tokens().roll(-1, dims=1)).backward()
    as_embedding = untied.embedding.weight.grad
    as_head = untied.get_parameter("head.matrix.weight").grad
    assert as_embedding is not None
    assert as_head is not None
    torch.testing.assert_close(tied.embedding.weight.grad, as_embedding + as_head)
    assert min(as_embedding.norm(), as_head.norm()) > 1e-2


@pytest.mark.parametrize("head", ["tied", "untied"])
@torch.no_grad()
def test_a_softcap_bounds_logits(tiny: Tiny, head: str):
    capped = tiny(head={"type": head, "softcap": 3.0}).build()
    free = tiny(head=head).build()
    for gpt in (capped, free):
        gpt.embedding.weight.mul_(50)
        if head == "untied":
            gpt.get_parameter("head.matrix.weight").mul_(50)
    assert free(tokens()).abs().max() > 6
    assert capped(tokens()).abs().max() <= 3
    torch.testing.assert_close(capped(tokens()), 3 * (free(tokens()) / 3).tanh())


def test_the_loss_is_the_cross_entropy_of_the_logits(tiny: Tiny):
    gpt = tiny(head={"type": "tied", "softcap": 3.0}).build()
    tokens_BT, targets_BT = tokens(), tokens().roll(-1, dims=1)
    log_p_BTV = gpt(tokens_BT).double().log_softmax(dim=-1)
    nats_BT = -log_p_BTV.gather(-1, targets_BT[..., None])[..., 0]
    torch.testing.assert_close(gpt.loss(tokens_BT, targets_BT).double(), nats_BT.mean())
    total = gpt.loss(tokens_BT, targets_BT, reduction="sum")
    torch.testing.assert_close(total.double(), nats_BT.sum())
    each = gpt.loss(tokens_BT, targets_BT, reduction="none")
    torch.testing.assert_close(each.double(), nats_BT.flatten())


def test_targets_of_minus_100_do_not_count(tiny: Tiny):
    gpt, tokens_BT, targets_BT = tiny().build(), tokens(), tokens().roll(-1, dims=1)
    targets_BT[:, :5] = -100
    each = gpt.loss(tokens_BT, targets_BT, reduction="none").unflatten(0, targets_BT.shape)
    assert each[:, :5].count_nonzero() == 0
    torch.testing.assert_close(gpt.loss(tokens_BT, targets_BT), each[:, 5:].mean())


def test_logits_are_float32_in_any_precision(tiny: Tiny):
    gpt = tiny(head={"type": "untied", "softcap": 3.0}).build().bfloat16()
    assert gpt(tokens()).dtype == torch.float32
