"""Gated DeltaNet against that of Qwen3-Next in `transformers`; its start, cost and refusals."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils.flop_counter import FlopCounterMode

from gptlab.kernels.delta_rule import delta_rule_by_token
from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention import gated_delta
from gptlab.parts.attention.gated_delta import Decay, GatedDeltaNet
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, G, K, V, T = 48, 4, 2, 6, 10, 150
SIZES = {"n_heads": H, "n_key_heads": G, "d_key": K, "d_value": V}


def build(tiny: Tiny, layer: int = 0, **changes: Any) -> GatedDeltaNet:
    model = tiny(
        attention={"type": "gated_delta"} | SIZES | changes, norm={"type": "rms_norm", "eps": 1e-6}
    )
    mixer = model.build().mixers()[layer].eval()
    assert isinstance(mixer, GatedDeltaNet)
    return mixer


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


def their_layer() -> nn.Module:
    pytest.importorskip("transformers")
    theirs: Any = import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    config = theirs.Qwen3NextConfig(
        hidden_size=D,
        num_hidden_layers=1,
        linear_num_value_heads=H,
        linear_num_key_heads=G,
        linear_key_head_dim=K,
        linear_value_head_dim=V,
        layer_types=["linear_attention"],
    )
    layer = theirs.Qwen3NextGatedDeltaNet(config, 0).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            scale = 1.0 if name == "A_log" else 0.3
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return layer


def our_weights(layer: nn.Module) -> dict[str, Tensor]:
    """Their weights under our names. Theirs are fused: all that belongs to a key head in a row."""
    weights, shared = layer.state_dict(), H // G
    query, key, value, gate = (
        weights["in_proj_qkvz.weight"]
        .unflatten(0, (G, -1))
        .split([K, K, shared * V, shared * V], dim=1)
    )
    rate, time = weights["in_proj_ba.weight"].unflatten(0, (G, -1)).split(shared, dim=1)
    return {
        "query.weight": query.flatten(0, 1),
        "key.weight": key.flatten(0, 1),
        "value.weight": value.flatten(0, 1),
        "gate.weight": gate.flatten(0, 1),
        "rate.weight": rate.flatten(0, 1),
        "decay.time.weight": time.flatten(0, 1),
        "decay.weight": weights["A_log"],
        "decay.bias": weights["dt_bias"],
        "convolution.weight": weights["conv1d.weight"][:, 0].T,
        "norm.weight": weights["norm.weight"],
        "output.weight": weights["out_proj.weight"],
    }


@torch.no_grad()
def furthest(mixer: GatedDeltaNet, **changed: Callable[[Tensor], Tensor]) -> float:
    """Compare outputs; `changed` are mistakes in weights, by name with _ for dots."""
    layer, x_BTD = their_layer(), stream()
    expected_BTD = layer(x_BTD)
    assert expected_BTD.std() > 0.5
    weights = our_weights(layer)
    mixer.load_state_dict(
        {name: changed.get(name.replace(".", "_"), nn.Identity())(w) for name, w in weights.items()}
    )
    return (mixer(x_BTD, Context(Places.counted(0, T))) - expected_BTD).abs().max().item()


def test_outputs_are_those_of_transformers(tiny: Tiny):
    assert furthest(build(tiny)) <= 2e-5


def test_a_mistake_in_the_weights_would_show(tiny: Tiny):
    assert furthest(build(tiny), convolution_weight=lambda w: w.roll(1, dims=0)) > 1e-2
    assert furthest(build(tiny), rate_weight=lambda w: w.flip(0)) > 1e-2
    assert furthest(build(tiny), query_weight=lambda w: w.flip(0)) > 1e-2
    assert furthest(build(tiny, negative_eigenvalues=True)) > 1e-2


def gate_then_norm(mixer: GatedDeltaNet, x_BTD: Tensor) -> Callable[[Tensor], Tensor]:
    """A norm that sees the gate already: once it is gated again, that is taken back."""
    gate_BTHV = silu(mixer.gate(x_BTD)).unflatten(-1, (H, V))
    norm = mixer.norm.forward
    return lambda y_BTHV: norm(y_BTHV * gate_BTHV) / gate_BTHV


def test_a_mistake_in_the_equations_would_show(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(gated_delta, "of_length_one", lambda x: x)
        assert furthest(build(tiny)) > 1e-2
    with monkeypatch.context() as patch:
        patch.setattr(Decay, "forward", lambda self, x, right=Decay.forward: right(self, x).neg())
        assert not furthest(build(tiny)) <= 1e-2
    mixer = build(tiny)
    furthest(mixer)  # has their weights from here on
    monkeypatch.setattr(mixer.norm, "forward", gate_then_norm(mixer, stream()))
    assert furthest(mixer) > 1e-2


@torch.no_grad()
def test_without_decay_it_is_one_that_hardly_decays(tiny: Tiny):
    mixer, plain = build(tiny), build(tiny, decay=False)
    mixer.decay.get_parameter("weight").fill_(-30)
    plain.load_state_dict(mixer.state_dict(), strict=False)
    places = Context(Places.counted(0, T))
    torch.testing.assert_close(plain(stream(), places), mixer(stream(), places))
    mixer.decay.get_parameter("weight").fill_(-1)
    assert (plain(stream(), places) - mixer(stream(), places)).abs().max() > 1e-3


@torch.no_grad()
def test_negative_eigenvalues_double_the_rate(tiny: Tiny):
    """A first token leaves b k v^T in the state."""
    states = []
    for doubled in (False, True):
        mixer = build(tiny, negative_eigenvalues=doubled)
        cache = mixer.new_cache(1)
        mixer(stream()[:, :1], Context(Places.counted(0, 1), [cache]))
        states.append(cache.state_BHKV)
    torch.testing.assert_close(states[1], 2 * states[0])
    assert states[0].abs().max() > 0


@torch.no_grad()
def test_it_starts_as_its_authors_have_it(tiny: Tiny):
    for layer in (0, 1):
        mixer = build(tiny, layer, n_heads=96, d_value=1)
        A_H = mixer.decay.get_parameter("weight").exp()
        assert 0.01 < A_H.min() < 1
        assert 15 < A_H.max() < 16
        assert A_H.mean() == pytest.approx(8, abs=1)
        assert (mixer.decay.get_parameter("bias") == 1).all()
        weight_WC = mixer.convolution.weight
        assert 0.45 < weight_WC.abs().max() <= 0.5
        assert weight_WC.std() == pytest.approx(0.5 / 3**0.5, rel=0.1)
    first, second = (build(tiny, layer).decay.get_parameter("weight") for layer in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, build(tiny).decay.get_parameter("weight"))


def test_score_flops_are_those_of_the_equations(tiny: Tiny):
    mixer = build(tiny)
    q, v, per_token = torch.ones(1, H, T, K), torch.ones(1, H, T, V), torch.zeros(1, H, T)
    with FlopCounterMode(display=False) as counter:
        delta_rule_by_token(q, q, v, per_token, per_token, torch.zeros(1, H, K, V), None)
    assert counter.get_total_flops() == mixer.score_flops(T) * T
    assert mixer.score_flops_of_all(T) == mixer.score_flops(T) == mixer.score_flops(1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"n_heads": 4, "n_key_heads": 3}, "n_key_heads=3 does not divide .*n_heads=4"),
        ({"n_heads": 7, "n_key_heads": 1}, r"n_heads=7 does not divide 2 times .*d_model=48"),
        ({"n_heads": 5, "d_value": 8}, r"n_key_heads=5 does not divide .*d_model=48.*d_key"),
    ],
)
def test_heads_that_do_not_divide_are_refused(tiny: Tiny, settings: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        tiny(attention={"type": "gated_delta"} | settings).build()
