"""A mixture of experts beyond what `transformers` shows: identities, loads, losses, refusals."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.context import Context
from gptlab.parts.mlp._balance import LoadBias
from gptlab.parts.mlp._router import Router, in_float32
from gptlab.parts.mlp.mixture_of_experts import Mixture, loads

Tiny = Callable[..., Model]
B, T, D, X = 3, 16, 24, 4
CLAMPED = {"type": "clamped_swiglu", "d_ff": 20, "limit": 0.5, "bias": True}


def build_mlp(tiny: Tiny, mlp: Any, **settings: Any) -> nn.Module:
    """Build one with weights large enough to matter."""
    attention = {"type": "grouped_query", "n_heads": 2}
    gpt = tiny(mlp=mlp, d_model=D, attention=attention, **{"n_layers": 1} | settings).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return gpt.blocks[0].get_submodule("mlp")


def mixture(tiny: Tiny, **settings: Any) -> Mixture:
    mlp = {"type": "mixture_of_experts", "n_experts": X, "expert": CLAMPED} | settings
    built = build_mlp(tiny, mlp)
    assert isinstance(built, Mixture)
    return built


def stream(seed: int = 1) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def context(**given: Any) -> Context:
    return Context(Places.counted(0, T), **given)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("expert", ["swiglu", "gelu", CLAMPED])
@torch.no_grad()
def test_one_expert_is_the_dense_mlp(tiny: Tiny, expert: Any, bf16: bool):
    one = mixture(tiny, expert=expert, n_experts=1, top_k=1, renormalize=False)
    dense = build_mlp(tiny, expert)
    one.experts[0].load_state_dict(dense.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        y_BTD, expected_BTD = one(stream(), context()), dense(stream(), context())
    assert y_BTD.dtype == expected_BTD.dtype == (torch.bfloat16 if bf16 else torch.float32)
    assert torch.equal(y_BTD, expected_BTD)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("top_k", [2, 3, X])
@torch.no_grad()
def test_equal_experts_are_the_dense_mlp(tiny: Tiny, top_k: int, score: str):
    equal = mixture(tiny, top_k=top_k, score=score)
    dense = build_mlp(tiny, CLAMPED)
    for expert in equal.experts:
        expert.load_state_dict(dense.state_dict())
    expected_BTD = dense(stream(), context())
    torch.testing.assert_close(equal(stream(), context()), expected_BTD, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_token_does_not_depend_on_the_others_in_its_batch(tiny: Tiny):
    """No expert is ever full: alone, a token gets what it gets beside many that go its way."""
    mlp, x_BTD = mixture(tiny, shared="gelu"), stream()
    crowd_BTD = x_BTD[:1, :1].expand(B, T, D).clone()
    crowd_BTD[1, 3] = x_BTD[1, 3]
    alone = mlp(x_BTD[1:2, 3:4], context())[0, 0]
    for batch_BTD in (x_BTD, crowd_BTD):
        torch.testing.assert_close(mlp(batch_BTD, context())[1, 3], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_first_layers_may_be_dense(tiny: Tiny):
    mlp = {"type": "mixture_of_experts", "dense_layers": [CLAMPED, "gelu"]}
    blocks = tiny(mlp=mlp, n_layers=4).build().blocks
    kinds = [type(block.get_submodule("mlp")).__name__ for block in blocks]
    assert kinds == ["GatedMLP", "PlainMLP", "Mixture", "Mixture"]


def test_an_expert_learns_from_its_tokens_alone(tiny: Tiny):
    mlp = mixture(tiny, n_experts=40)
    x_BTD = stream().requires_grad_()
    mlp(x_BTD, context()).square().sum().backward()
    assert x_BTD.grad is not None
    assert mlp.router.matrix.weight.grad is not None
    chosen = set(mlp.router(x_BTD, context())[1].flatten().tolist())
    assert 20 < len(chosen) < 40
    for i, expert in enumerate(mlp.experts):
        learns = [p.grad is not None and p.grad.norm() > 0 for p in expert.parameters()]
        assert learns == [i in chosen] * len(learns)


def test_initial_values_go_by_role(tiny: Tiny):
    initialization = {"type": "gpt2", "scale": 0.3}
    mlp = {"type": "mixture_of_experts", "shared": "swiglu", "router_bias": True}
    gpt = tiny(mlp=mlp, initialization=initialization, d_model=96).build()
    mixture = gpt.blocks[1].get_submodule("mlp")
    deviations = {
        "router.matrix": 0.02,
        "experts.0.up": 0.3,
        "experts.7.down": 0.3 / 2,
        "shared.down": 0.3 / 2,
    }
    for name, std in deviations.items():
        assert mixture.get_parameter(f"{name}.weight").std().item() == pytest.approx(std, rel=0.1)
    first, last = (mixture.get_parameter(f"experts.{i}.up.weight") for i in (0, 7))
    assert not torch.equal(first, last)


def test_gradients_are_those_of_a_sum_over_all_experts(tiny: Tiny):
    """Plainly: every expert computes every token, and those not chosen count for nothing."""
    mlp = mixture(tiny, renormalize=False).double()
    x_BTD = stream().double().requires_grad_()
    inputs = [x_BTD, *mlp.parameters()]
    actual = torch.autograd.grad(mlp(x_BTD, context()).square().sum(), inputs)
    weights_BTX = softmax(mlp.router.matrix(x_BTD), dim=-1)
    is_chosen_BTX = weights_BTX >= weights_BTX.sort(-1)[0][..., -2:-1]
    each_BTDX = torch.stack([expert(x_BTD, context()) for expert in mlp.experts], dim=-1)
    y_BTD = ((weights_BTX * is_chosen_BTX)[..., None, :] * each_BTDX).sum(-1)
    expected = torch.autograd.grad(y_BTD.square().sum(), inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_choice_is_made_in_float32(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    router = mixture(tiny).router
    x_BTD = torch.cat([stream(seed) for seed in range(20)])

    def chosen() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return router(x_BTD, context())[1]

    weights_BTK, experts_BTK = router(x_BTD, context())
    assert weights_BTK.dtype == torch.float32
    assert torch.equal(chosen(), experts_BTK)
    monkeypatch.setattr(f"{in_float32.__module__}.in_float32", lambda matrix, x: matrix(x))
    assert not torch.equal(chosen(), experts_BTK)


def by_hand(router: Router, x_BTD: Tensor, K: int) -> dict[str, float]:
    """The auxiliary losses, counted token by token."""
    load_BX, wish_BX = torch.zeros(B, X), torch.zeros(B, X)
    z = 0.0
    for b, row in enumerate(router.matrix(x_BTD)):
        for logits in row:
            powers = [math.exp(logit) for logit in logits]
            z += math.log(sum(powers)) ** 2 / (B * T)
            best = sorted(range(X), key=lambda x: -logits[x])[:K]
            for x in range(X):
                load_BX[b, x] += (x in best) / (K * T)
                wish_BX[b, x] += powers[x] / sum(powers) / T
    return {
        "balance_loss": X * (load_BX.mean(0) * wish_BX.mean(0)).sum().item(),
        "sequence_balance_loss": X * (load_BX * wish_BX).sum().item() / B,
        "router_z_loss": z,
    }


@torch.no_grad()
def test_losses_are_their_formulas(tiny: Tiny):
    weights = {"balance_loss": 0.5, "sequence_balance_loss": 0.25, "router_z_loss": 2.0}
    mlp, losses = mixture(tiny, top_k=3, **weights), {}
    expected = by_hand(mlp.router, stream(), K=3)
    for times in (1, 2):  # as two layers would
        mlp(stream(), context(losses=losses))
        for name, weight in weights.items():
            assert losses[name].item() == pytest.approx(times * weight * expected[name], rel=1e-5)
    assert abs(expected["balance_loss"] - expected["sequence_balance_loss"]) > 1e-3


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@torch.no_grad()
def test_a_loss_is_its_weight_where_wishes_are_even(tiny: Tiny, score: str):
    mlp, losses = mixture(tiny, top_k=3, score=score, balance_loss=0.01), {}
    mlp.router.matrix.weight.zero_()
    mlp(stream(), context(losses=losses))
    assert {name: loss.item() for name, loss in losses.items()} == {
        "balance_loss": pytest.approx(0.01)
    }


@torch.no_grad()
def test_places_without_text_count_for_nothing(tiny: Tiny):
    weights = {"balance_loss": 0.5, "sequence_balance_loss": 0.25, "router_z_loss": 2.0}
    x_BTD = stream()
    documents_BT = torch.zeros(B, T, dtype=torch.long)
    documents_BT[:, T - 5 :] = -1
    filled = Places(torch.arange(T)[None], documents_BT)
    seen = []
    for x, places in [(x_BTD[:, : T - 5], Places.counted(0, T - 5)), (x_BTD, filled)]:
        mlp, losses = mixture(tiny, load_bias_step=0.25, **weights), {}
        mlp(x, Context(places, losses=losses))
        seen.append((losses, load_bias(mlp).load_X))
    torch.testing.assert_close(*seen)


def load_bias(mlp: Mixture) -> LoadBias:
    bias = mlp.router.load_bias
    assert isinstance(bias, LoadBias)
    return bias


@torch.no_grad()
def test_the_bias_moves_against_the_load_of_the_whole_batch(tiny: Tiny):
    mlp = mixture(tiny, load_bias_step=0.25)
    bias = load_bias(mlp)
    bias.bias_X[0] = 0.1
    load_X = torch.zeros(X)
    for seed in (1, 2, 3):  # portions of a batch
        for x in mlp.router(stream(seed), context(losses={}))[1].flatten().tolist():
            load_X[x] += 1
    expected_X = torch.tensor([0.1, 0, 0, 0]) + 0.25 * (load_X.mean() - load_X).sign()
    assert load_X.sum() == 3 * B * T * 2
    bias.after_step()
    assert torch.equal(bias.bias_X, expected_X)
    bias.after_step()  # of a step without tokens
    assert torch.equal(bias.bias_X, expected_X)


@torch.no_grad()
def test_nothing_is_counted_but_in_training(tiny: Tiny):
    mlp = mixture(tiny, load_bias_step=0.25).eval()
    mlp(stream(), context())
    load_bias(mlp).after_step()
    assert load_bias(mlp).bias_X.tolist() == [0] * X


def test_the_bias_is_saved_and_not_learned(tiny: Tiny):
    names = mixture(tiny, load_bias_step=0.25).state_dict().keys()
    assert [name for name in names if "load" in name] == ["router.load_bias.bias_X"]
    assert "router.load_bias.bias_X" not in dict(mixture(tiny).named_parameters())
    assert [name for name in mixture(tiny).state_dict() if "load" in name] == []


@pytest.mark.parametrize(
    "balance",
    [{"load_bias_step": 0.01, "balance_loss": 0}, {"balance_loss": 1.0}, {"balance_loss": 0}],
    ids=["bias", "loss", "nothing"],
)
def test_balancing_evens_out_a_skewed_load(tiny: Tiny, balance: dict[str, float]):
    """Every token leans to the first experts; the busiest has nearly all until it is balanced."""
    mlp = mixture(tiny, score="sigmoid", router_bias=True, **balance)
    optimizer = torch.optim.SGD(mlp.router.parameters(), lr=1.0)
    with torch.no_grad():
        mlp.router.matrix.bias.copy_(torch.tensor([3.0, 2.0, -1.0, -2.0]))

    def most() -> float:
        busy_X = mlp.router(stream(), context())[1].flatten().bincount(minlength=X)
        return (busy_X.max() / busy_X.float().mean()).item()

    assert most() > 1.8  # of 2, which is every token
    for _ in range(150):
        losses: dict[str, Tensor] = {}
        mlp(stream(), context(losses=losses))
        for loss in losses.values():
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if isinstance(mlp.router.load_bias, LoadBias):
            with torch.no_grad():
                mlp.router.load_bias.after_step()
    assert most() > 1.8 if balance == {"balance_loss": 0} else most() < 1.2


def test_tensors_without_contents_are_shared_out_evenly():
    experts_NK = torch.zeros(5, 3, dtype=torch.long)
    assert loads(experts_NK, 4) == [15, 0, 0, 0]
    assert loads(experts_NK.to("meta"), 4) == [3, 4, 4, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_experts": 8, "top_k": 9}, r"top_k=9 is more than the 8 experts .*n_experts=8"),
        ({"n_experts": 8, "n_groups": 3}, r"n_groups=3 does not divide model\.mlp\.n_experts=8"),
        ({"n_groups": 2, "top_groups": 3}, r"top_groups=3 is more than model\.mlp\.n_groups=2"),
        ({"n_groups": 4, "top_k": 3, "n_experts": 8}, r"top_k=3 is more than the 2 experts"),
        ({"top_k": 1}, r"top_k=1 with model\.mlp\.renormalize=true.*renormalize=false"),
        ({"expert": {"type": "mixture_of_experts"}}, r"model\.mlp\.expert=mixture_of_experts"),
        ({"shared": {"type": "mixture_of_experts"}}, r"model\.mlp\.shared=mixture_of_experts"),
        ({"dense_layers": ["gelu"]}, r"dense_layers has 1 layers and model\.n_layers=1"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Tiny, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        mixture(tiny, **settings)
