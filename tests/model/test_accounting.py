from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptlab.config import variant_names
from gptlab.kernels.attention import visible_keys
from gptlab.model.accounting import (
    build_on_meta,
    cache_bytes,
    check_fits,
    count_flops,
    count_parameters,
    training_flops_per_token,
)
from gptlab.model.gpt import Model
from gptlab.parts.head import Head
from gptlab.parts.mlp import MLP
from gptlab.parts.positions import Positions
from gptlab.parts.residual import Residual

T = 24


def small(**settings: Any) -> Model:
    tree = {
        "vocab_size": 37,
        "context_length": T,
        "d_model": 32,
        "n_layers": 3,
        "positions": "learned",
        "norm": "layer_norm",
        "attention": {"type": "grouped_query", "n_heads": 4},
        "mlp": "gelu",
        "residual": "pre_norm",
        "head": "tied",
        "initialization": "gpt2",
    }
    return Model.parse(tree | settings)


def gpt2(**settings: Any) -> Model:
    sizes = {"vocab_size": 50257, "context_length": 1024, "d_model": 768, "n_layers": 12}
    biased = {
        "attention": {"type": "grouped_query", "n_heads": 12, "bias": True},
        "mlp": {"type": "gelu", "bias": True},
    }
    return small(**(sizes | biased | settings))


def attention(**settings: Any) -> dict[str, Any]:
    return {"attention": {"type": "grouped_query", "n_heads": 4} | settings}


EXPERTS = {
    "type": "mixture_of_experts",
    "expert": {"type": "clamped_swiglu", "d_ff": 12, "bias": True},
    "shared": {"type": "swiglu", "d_ff": 20},
    "dense_layers": ["gelu"],
    "router_bias": True,
}
llama = {"positions": "rotary", "norm": "rms_norm", "mlp": "swiglu", "head": "untied"}
MODELS = {
    "gpt2": small(**attention(bias=True), mlp={"type": "gelu", "bias": True}),
    "llama": small(**llama, **attention(n_kv_heads=2)),
    "multi_query": small(**attention(n_kv_heads=1, qk_norm="rms_norm")),
    "window": small(**attention(window=5)),
    "d_head": small(**attention(n_heads=3, d_head=16, scale=0.2, qk_norm="rms_norm")),
    "gate": small(**attention(gate="elementwise", bias=True)),
    "head_gate": small(**attention(gate="head", value_residual=True)),
    "differential": small(attention={"type": "differential", "n_heads": 2}),
    "normalized": small(attention={"type": "normalized", "n_heads": 4, "n_kv_heads": 2}),
    "gated_delta": small(attention={"type": "gated_delta", "n_heads": 4, "n_key_heads": 2}),
    "linear": small(attention={"type": "linear", "n_heads": 4}),
    "convolution": small(attention="convolution", positions="none"),
    "latent": small(attention={"type": "latent", "n_heads": 4, "d_query_latent": 12}),
    "chunk": small(**attention(chunk=5)),
    "shared": small(
        attention={
            "type": "alternating",
            "of": [attention()["attention"], attention(share_kv=True)["attention"]],
            "last": attention(n_kv_heads=2)["attention"],
        }
    ),
    "sinks": small(**attention(sinks=True)),
    "softcap": small(**attention(n_kv_heads=2, softcap=2.0, sinks=True)),
    "alternating": small(
        attention={
            "type": "alternating",
            "of": [attention(window=4)["attention"], attention()["attention"]],
        }
    ),
    "experts": small(mlp=EXPERTS),
    **{name: small(positions=name) for name in variant_names(Positions)},
    **{name: small(mlp=name) for name in variant_names(MLP)},
    **{name: small(residual=name) for name in variant_names(Residual)},
    **{name: small(head={"type": name, "softcap": 5.0}) for name in variant_names(Head)},
}


def counted(model: Model, backward: bool) -> tuple[int, int]:
    """Let torch count: products with weights, and products of attention, for T tokens."""
    gpt = model.build()
    tokens_BT = torch.arange(T)[None] % 37
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss = gpt.loss(tokens_BT, tokens_BT)
        if backward:
            loss.backward()
    by_operation = counter.get_flop_counts()["Global"]
    batched = by_operation.pop(torch.ops.aten.bmm, 0) + by_operation.pop(torch.ops.aten.baddbmm, 0)
    return sum(by_operation.values()), batched


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_products_are_those_that_torch_counts(model: Model):
    flops = count_flops(model)
    products, _ = counted(model, backward=False)
    assert products == flops.products * T
    products, _ = counted(model, backward=True)
    assert products == 3 * flops.products * T


@pytest.mark.parametrize(
    "name", ["gpt2", "llama", "multi_query", "alibi", "d_head", "gate", "head_gate", "softcap"]
)
def test_scores_are_those_that_torch_counts_but_for_keys_that_nobody_sees(name: str):
    flops = count_flops(MODELS[name])
    _, scores = counted(MODELS[name], backward=False)
    assert scores == pytest.approx(flops.scores * T * T / visible_keys(T, None), rel=1e-12)
    _, scores = counted(MODELS[name], backward=True)
    assert scores == pytest.approx(flops.training_palm * T - 3 * flops.products * T, rel=1e-12)


def test_scores_count_the_keys_that_are_seen():
    for window, seen in [(None, sum(range(1, T + 1))), (5, 1 + 2 + 3 + 4 + 5 * (T - 4))]:
        flops = count_flops(small(**attention(window=window)))
        assert flops.scores * T == pytest.approx(3 * 4 * 32 * seen)  # layers, 2 products, d_model
        assert flops.forward == flops.products + flops.scores
        assert flops.training == 3 * flops.forward


@pytest.mark.parametrize("name", ["convolution", "gated_delta", "linear"])
def test_a_state_costs_the_same_whatever_it_has_read(name: str):
    flops = count_flops(MODELS[name])
    assert flops.scores == count_flops(MODELS[name], T=1).scores > 0
    assert flops.training_palm == flops.training


def test_flops_of_gpt2():
    model = gpt2()
    assert count_flops(model).products == 2 * (124_439_808 - 786_432 - 121_344)  # tables, vectors
    assert count_flops(model, T=2048).scores == 2 * 18_892_800 - 12 * 4 * 768 / 2
    assert training_flops_per_token(model) == 3 * (247_064_064 + 18_892_800)


def test_parameters_of_gpt2():
    counted = count_parameters(gpt2())
    assert counted.total == 124_439_808
    assert counted.embedding == 50257 * 768 + 1024 * 768
    assert counted.non_embedding == counted.total - counted.embedding
    assert counted.per_part == {
        "embedding": 50257 * 768,
        "positions": 1024 * 768,
        "residual": 25 * 2 * 768,
        "attention": 12 * 4 * (768 * 768 + 768),
        "mlp": 12 * (2 * 4 * 768 * 768 + 5 * 768),
    }


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_parameters_are_those_of_the_built_model(model: Model):
    counted = count_parameters(model)
    assert counted.total == sum(p.numel() for p in model.build().parameters())
    assert counted.total == sum(counted.per_part.values())
    tables = ("embedding.", "positions.", "head.")
    assert counted.embedding == sum(
        p.numel()
        for name, p in model.build().named_parameters()
        if name.startswith(tables) and p.ndim == 2
    )


def test_a_token_uses_some_of_the_experts():
    counted, dense = count_parameters(small(mlp=EXPERTS)), count_parameters(small())
    assert dense.active == dense.total
    expert, shared, router = 3 * 32 * 12 + 12 + 12 + 32, 3 * 32 * 20, 8 * 32 + 8
    assert counted.per_part["mlp"] == 8 * 32 * 32 + 2 * (8 * expert + shared + router)
    assert counted.total - counted.active == 2 * (8 - 2) * expert


def test_cache_of_grouped_heads_is_not_expanded():
    full = cache_bytes(gpt2())
    assert full.per_token == 12 * 2 * 768 * 2
    assert full.full_context == 1024 * full.per_token
    grouped = gpt2(attention={"type": "grouped_query", "n_heads": 12, "n_kv_heads": 3})
    assert cache_bytes(grouped, element_size=4).per_token == 12 * 2 * 192 * 4


def test_cache_of_windowed_layers_stops_growing():
    of = [attention(window=5)["attention"], attention(n_kv_heads=1)["attention"]]
    caches = cache_bytes(small(attention={"type": "alternating", "of": of}, n_layers=4))
    assert caches.per_token == 2 * 2 * 8 * 2  # layers, keys and values, d_head, bytes
    assert caches.full_context == T * caches.per_token + 5 * 2 * 2 * 32 * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"d_model": 96_000, "n_layers": 1000},
        {"vocab_size": 10_000_000, "d_model": 96_000},
        {"context_length": 10_000_000, "d_model": 96_000},
        {"mlp": {"type": "gelu", "d_ff": 10_000_000}, "n_layers": 1000},
    ],
)
def test_a_model_beyond_the_memory_is_refused_before_it_is_built(settings: dict[str, Any]):
    with pytest.raises(ValueError, match=r"model\.d_model=.*make the model smaller"):
        check_fits(gpt2(**settings), memory_bytes=10**12)


def test_a_model_fits_when_weights_gradients_and_optimizer_do():
    check_fits(gpt2(), memory_bytes=16 * 124_439_808)
    with pytest.raises(ValueError, match="vocab_size=50257"):
        check_fits(gpt2(), memory_bytes=16 * 124_439_808 - 1)


def test_counting_draws_no_random_numbers_and_takes_no_memory():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    gpt = build_on_meta(gpt2())
    assert {p.device.type for p in gpt.parameters()} == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="n_heads=12 does not divide"):
        count_parameters(gpt2(d_model=100))
