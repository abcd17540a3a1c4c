"""Multi-token prediction against its equations, written token by token in float64."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import log_softmax
from torch.utils.flop_counter import FlopCounterMode

from gptlab.kernels.places import Places
from gptlab.model.accounting import count_flops, count_parameters
from gptlab.model.gpt import GPT, Model
from gptlab.model.multi_token import ahead
from gptlab.parts.context import Context
from gptlab.show.model import picture

Tiny = Callable[..., Model]
T, WEIGHT = 12, 0.7
FORMS = ("sequential", "independent")
ROTARY = {"positions": "rotary", "norm": "rms_norm"}


def build(tiny: Tiny, form: str, depth: int = 2, **changes: Any) -> GPT:
    extra = {"form": form, "depth": depth, "weight": WEIGHT}
    gpt = tiny(**(ROTARY | {"multi_token": extra} | changes)).build().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
    return gpt


def text(seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.randint(31, (2, T + 1), generator=torch.Generator().manual_seed(seed))
    return draw[:, :-1], draw[:, 1:]


def through(extra: nn.Module, x_BTD: Tensor) -> Tensor:
    """The block by itself, on as many tokens as there are, then the norm before the head."""
    context = Context(Places.counted(0, x_BTD.shape[1]))
    return extra.get_submodule("ends.norm")(extra.get_submodule("block")(x_BTD, context))


def log_chances(gpt: GPT, form: str, tokens_BT: Tensor, depth: int, token: int = 0) -> list[Tensor]:
    """What each head k says at i = 1 .. T - k of tokens t_1 .. t_T, as log probabilities.

    token: how far off a mistaken choice of the token ahead is.
    """
    E_VD, n_tokens = gpt.embedding.weight, tokens_BT.shape[1]
    main = previous = gpt.read(tokens_BT)
    said = []
    for k in range(1, min(depth, n_tokens - 1) + 1):
        extra = gpt.multi_token.get_submodule(f"heads.{k - 1}")
        i = range(1, n_tokens - k + 1)
        if form == "sequential":
            ahead = E_VD[torch.stack([tokens_BT[:, (j + k + token) - 1] for j in i], dim=1)]
            norm, token_norm = (extra.get_submodule(name) for name in ("norm", "token_norm"))
            joined = torch.cat([norm(previous[:, : len(i)]), token_norm(ahead)], dim=-1)
            previous = through(extra, joined @ extra.get_parameter("join.weight").T)
        else:
            previous = through(extra, main)[:, : len(i)]
        said.append(log_softmax(previous @ E_VD.T, dim=-1))
    return said


def losses_of(
    gpt: GPT, form: str, tokens_BT: Tensor, text_BT: Tensor, depth: int, token=0, target=0
) -> list[list[Tensor]]:
    """Each head's losses of t_(i + k + 1), wherever the text t_1, t_2, ... has such a token."""
    B, length = text_BT.shape
    return [
        [
            -chances_BTV[b, i - 1, text_BT[b, (i + k + 1 + target) - 1]]
            for b in range(B)
            for i in range(1, chances_BTV.shape[1] + 1)
            if i + k + 1 <= length
        ]
        for k, chances_BTV in enumerate(log_chances(gpt, form, tokens_BT, depth, token), start=1)
    ]


def by_the_equations(gpt: GPT, form: str, text_BT: Tensor, depth: int, **mistake: int) -> Tensor:
    """Compute lambda / D * sum over k of the mean loss; text_BT: t_1 .. t_(T+1)."""
    losses = losses_of(gpt, form, text_BT[:, :-1], text_BT, depth, **mistake)
    return WEIGHT / depth * torch.stack([torch.stack(of_head).mean() for of_head in losses]).sum()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_the_loss_and_its_gradients_are_those_of_the_equations(tiny: Tiny, form: str, depth: int):
    gpt, (tokens_BT, targets_BT) = build(tiny, form, depth), text()
    text_BT = torch.cat([tokens_BT, targets_BT[:, -1:]], dim=1)
    loss = gpt.losses(tokens_BT, targets_BT)["multi_token"]
    expected = by_the_equations(gpt, form, text_BT, depth)
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-6)  # logits are float32
    parameters = list(gpt.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    by_hand = torch.autograd.grad(expected, parameters, allow_unused=True)
    for gradient, expected_gradient in zip(gradients, by_hand, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mistake", [{"token": -1}, {"target": -1}])
def test_an_index_that_is_off_by_one_is_seen(tiny: Tiny, mistake: dict[str, int]):
    gpt, (tokens_BT, targets_BT) = build(tiny, "sequential"), text()
    text_BT = torch.cat([tokens_BT, targets_BT[:, -1:]], dim=1)
    loss = gpt.losses(tokens_BT, targets_BT)["multi_token"]
    mistaken = by_the_equations(gpt, "sequential", text_BT, 2, **mistake)
    assert (loss - mistaken).abs() > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_the_main_loss_the_logits_and_the_initial_values_are_those_without(tiny: Tiny, form: str):
    tokens_BT, targets_BT = text()
    without = tiny(**ROTARY).build()
    gpt = tiny(**ROTARY, multi_token={"form": form}).build()
    assert torch.equal(gpt(tokens_BT), without(tokens_BT))
    assert torch.equal(gpt.loss(tokens_BT, targets_BT), without.loss(tokens_BT, targets_BT))
    losses = gpt.losses(tokens_BT, targets_BT)
    assert list(losses) == ["loss", "multi_token"]
    assert torch.equal(losses["loss"], without.losses(tokens_BT, targets_BT)["loss"])
    assert len(gpt.new_caches(T)) == len(gpt.mixers()) == 2


@pytest.mark.parametrize("form", FORMS)
def test_documents_of_a_packed_row_count_as_if_they_stood_alone(tiny: Tiny, form: str):
    depth, lengths = 3, (6, 2, 4)
    gpt, (tokens_BT, targets_BT) = build(tiny, form, depth), text()
    documents_T = torch.tensor([8]).repeat_interleave(T)
    documents_T[:6], documents_T[8:] = 5, 9
    targets_BT = targets_BT.index_fill(1, torch.tensor([5, 7]), -100)
    heads: list[list[Tensor]] = [[] for _ in range(depth)]
    for document_BT in tokens_BT.split(lengths, dim=1):
        is_last = document_BT.shape[1] == lengths[-1]
        after = [targets_BT[:, -1:]] if is_last else []
        alone = losses_of(gpt, form, document_BT, torch.cat([document_BT, *after], 1), depth)
        for head, losses in zip(heads, alone, strict=False):
            head += losses
    expected = WEIGHT / depth * sum(torch.stack(head).mean() for head in heads)
    places = Places.packed(documents_T[None])
    loss = gpt.losses(tokens_BT, targets_BT, places)["multi_token"]
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-6)
    assert (gpt.losses(tokens_BT, targets_BT)["multi_token"] - loss).abs() > 0.01


def test_the_end_of_a_document_is_a_target_too():
    """In packed batches a place is of the document that it predicts."""
    targets_BT = torch.tensor([[81, 82, 0, 71, 0, -100]])
    documents_BT = torch.tensor([[0, 0, 0, 1, 1, -1]])
    context = Context(Places.packed(documents_BT), losses={})
    assert ahead(targets_BT, 1, context).tolist() == [[82, 0, -100, 0, -100, -100]]
    assert ahead(targets_BT, 2, context).tolist() == [[0, -100, -100, -100, -100, -100]]


def test_a_head_without_any_target_costs_nothing(tiny: Tiny):
    gpt, (tokens_BT, targets_BT) = build(tiny, "sequential"), text()
    assert gpt.losses(tokens_BT[:, :1], targets_BT[:, :1])["multi_token"] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "changes",
    [
        {"residual": "hyper_connections"},
        {"residual": "initial_mix"},
        {"attention": {"type": "grouped_query", "value_residual": True}},
        {"attention": {"type": "grouped_query", "window": 5}, "positions": "alibi"},
        {"mlp": {"type": "mixture_of_experts", "n_experts": 4}, "head": "untied"},
        {"positions": "learned"},
    ],
)
def test_it_trains_beside_other_parts(tiny: Tiny, form: str, changes: dict[str, Any]):
    gpt = tiny(**(ROTARY | changes), multi_token={"form": form, "depth": 2}).build().train()
    tokens_BT, targets_BT = text()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3)
    losses = []
    for _ in range(10):
        parts = gpt.losses(tokens_BT, targets_BT)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        optimizer.step()
        losses.append(parts["multi_token"].item())
    assert [name for name, p in gpt.named_parameters() if p.grad is None] == []
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("form", FORMS)
def test_its_cost_belongs_to_training(tiny: Tiny, form: str):
    model = tiny(**ROTARY, multi_token={"form": form, "depth": 2})
    without, flops, plain = tiny(**ROTARY), count_flops(model), count_flops(tiny(**ROTARY))
    assert (flops.forward, flops.products) == (plain.forward, plain.products)
    gpt = model.build()
    tokens_BT = torch.zeros(1, model.context_length, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.stack(list(gpt.losses(tokens_BT, tokens_BT).values())).sum().backward()
    counted = counter.get_total_flops()
    assert counted == pytest.approx(flops.training_palm * model.context_length, rel=1e-12)
    parts = count_parameters(model).per_part
    assert parts.pop("multi_token") == sum(p.numel() for p in gpt.multi_token.parameters())
    assert parts == count_parameters(without).per_part


def test_what_cannot_be_is_refused(tiny: Tiny):
    with pytest.raises(ValueError, match=r"depth=24 leaves no target .*context_length=24; make"):
        tiny(multi_token={"depth": 24}).build()
    with pytest.raises(ValueError, match=r"multi_token\.weight: .* greater than 0"):
        tiny(multi_token={"weight": 0})


def test_the_picture_shows_it(tiny: Tiny):
    extra = {"depth": 2, "form": "independent"}
    line = "  │ in training, 2 independent heads for further tokens"
    assert line in picture(tiny(multi_token=extra))
    assert line not in picture(tiny())
