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


@torch.no_grad()
def test_logits_are_scaled_first_and_capped_then(tiny: Tiny):
    free = tiny(head="tied").build()
    both = tiny(head={"type": "tied", "scale": 20.0, "softcap": 3.0}).build()
    logits_BTV = free(tokens())
    torch.testing.assert_close(both(tokens()), 3 * (20 * logits_BTV / 3).tanh())
    assert (both(tokens()) - 20 * 3 * (logits_BTV / 3).tanh()).abs().max() > 0.1


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_z_loss_is_the_mean_square_of_what_logits_lack_to_log_probabilities(
    tiny: Tiny, softcap: float | None
):
    """PaLM's, weight * log(Z)^2, over the targets that count; the main loss stays what it is."""
    head = {"type": "untied", "scale": 5.0, "softcap": softcap}
    gpt = tiny(head=head | {"z_loss": 0.3}).build().double()
    tokens_BT, targets_BT = tokens(), tokens().roll(-1, dims=1)
    targets_BT[0, 2:] = -100
    logits_BTV = gpt(tokens_BT)
    log_z_N = logits_BTV.exp().sum(-1).log()[targets_BT != -100]
    assert len(log_z_N) == 2 + 9
    losses = gpt.losses(tokens_BT, targets_BT)
    assert losses.keys() == {"loss", "z_loss"}
    torch.testing.assert_close(losses["z_loss"], 0.3 * (log_z_N**2).mean())
    plain = tiny(head=head).build().double()
    assert plain.losses(tokens_BT, targets_BT).keys() == {"loss"}
    assert torch.equal(losses["loss"], plain.loss(tokens_BT, targets_BT))


def test_z_loss_brings_logits_to_log_probabilities(tiny: Tiny):
    gpt = tiny(head={"type": "untied", "z_loss": 1.0}).build()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3)
    first = gpt.losses(tokens(), tokens())["z_loss"].item()
    for _ in range(30):
        optimizer.zero_grad()
        torch.stack(list(gpt.losses(tokens(), tokens()).values())).sum().backward()
        optimizer.step()
    assert gpt.losses(tokens(), tokens())["z_loss"].item() < 0.1 * first


@pytest.mark.parametrize("settings", [{}, {"scale": 7.0, "softcap": 3.0, "z_loss": 0.3}], ids=str)
def test_gradients_of_a_tied_embedding_are_finite_differences(tiny: Tiny, settings: dict):
    gpt = tiny(head={"type": "tied"} | settings).build().double()
    tokens_BT, targets_BT = tokens(), tokens().roll(-1, dims=1)

    def total() -> Tensor:
        return torch.stack(list(gpt.losses(tokens_BT, targets_BT).values())).sum()

    total().backward()
    weight_VD, gradient_VD = gpt.embedding.weight, gpt.embedding.weight.grad
    assert gradient_VD is not None
    absent = min(set(range(31)) - set(tokens_BT.flatten().tolist()))  # only the head uses it
    with torch.no_grad():
        for v, d in [(int(tokens_BT[0, 0]), 3), (int(tokens_BT[1, 4]), 0), (absent, 5)]:
            differences = []
            for step in (1e-5, -1e-5):
                weight_VD[v, d] += step
                differences.append(total())
                weight_VD[v, d] -= step
            slope = (differences[0] - differences[1]) / 2e-5
            torch.testing.assert_close(gradient_VD[v, d], slope, rtol=1e-6, atol=1e-9)


def test_scaled_logits_are_those_of_granite(tiny: Tiny):
    transformers = pytest.importorskip("transformers")
    granite = transformers.GraniteForCausalLM(
        transformers.GraniteConfig(
            vocab_size=31,
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=4,
            logits_scaling=7.0,
            tie_word_embeddings=False,
        )
    ).eval()
    with torch.no_grad():
        granite.lm_head.weight.normal_(0.0, 1.0)
        theirs = granite(tokens(), output_hidden_states=True)
        x_BTD, weight_VD = theirs.hidden_states[-1], granite.lm_head.weight
        gpt = tiny(head={"type": "tied", "scale": 1 / 7}).build()
        difference = (gpt.head(x_BTD, weight_VD) - theirs.logits).abs().max()
        unscaled = (tiny(head="tied").build().head(x_BTD, weight_VD) - theirs.logits).abs().max()
    assert difference < 2e-5
    assert unscaled > 1


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
