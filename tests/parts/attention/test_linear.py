"""Linear attention against its equations, in float64; its cost and its refusals."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu
from torch.utils.flop_counter import FlopCounterMode

from gptlab.kernels.linear_attention import linear_attention_by_token
from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention.linear import LinearMixer, elu_plus_one
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, T = 48, 4, 90
E = D // H
LEGAL = [("elu", "sum"), ("elu", "norm"), ("identity", "norm")]
every_kind = pytest.mark.parametrize(("feature_map", "divide"), LEGAL)


def build(tiny: Tiny, **settings: Any) -> LinearMixer:
    attention = {"type": "linear", "n_heads": H} | settings
    mixer = tiny(attention=attention, norm="rms_norm").build().mixers()[0].double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mixer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    assert isinstance(mixer, LinearMixer)
    return mixer


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(mixer: LinearMixer, feature_map: str, divide: str, late: int = 0) -> Tensor:
    """All pairs of tokens, a head at a time; `late` leaves out a token's newest keys."""
    phi = {"elu": lambda x: elu(x) + 1, "identity": lambda x: x}[feature_map]
    seen_TT = torch.ones(T, T, dtype=torch.float64).tril(-late)
    heads = []
    for h in range(H):
        own = slice(h * E, (h + 1) * E)
        q_BTE, k_BTE, v_BTE = (
            stream() @ matrix.weight[own].T for matrix in (mixer.query, mixer.key, mixer.value)
        )
        weights_BTT = seen_TT * (phi(q_BTE) @ phi(k_BTE).mT)
        y_BTE = weights_BTT @ v_BTE
        if divide == "sum":
            heads.append(y_BTE / weights_BTT.sum(-1, keepdim=True))
        else:
            rms = (y_BTE.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            heads.append(mixer.ends.get_parameter("norm.weight") * y_BTE / rms)
    return torch.cat(heads, -1) @ mixer.output.weight.T


@every_kind
@torch.no_grad()
def test_outputs_are_those_of_the_equations(tiny: Tiny, feature_map: str, divide: str):
    mixer = build(tiny, feature_map=feature_map, divide=divide)
    y_BTD = mixer(stream(), Context(Places.counted(0, T)))
    expected_BTD = by_hand(mixer, feature_map, divide)
    torch.testing.assert_close(y_BTD, expected_BTD, rtol=0, atol=1e-12)
    assert y_BTD.std() > 0.1
    late_BTD = by_hand(mixer, feature_map, divide, late=1)
    assert (y_BTD - late_BTD)[:, 1:].abs().max() > 0.1
    for wrong in set(LEGAL) - {(feature_map, divide)}:
        if wrong[1] == divide:
            assert (y_BTD - by_hand(mixer, *wrong)).abs().max() > 0.1


def test_weights_never_round_to_zero():
    """The sum of a query's weights is divided by; float32 ends elu(x) + 1 near x = -17."""
    x = torch.tensor([-60.0, -17.0, -1.0, 0.0, 3.0], requires_grad=True)
    feature = elu_plus_one(x)
    torch.testing.assert_close(feature, torch.cat([x[:3].exp(), x[3:] + 1]))
    assert (feature > 0).all()
    (gradient,) = torch.autograd.grad(feature.sum(), x)
    torch.testing.assert_close(gradient, torch.cat([x[:3].exp(), torch.ones(2)]))
    assert elu_plus_one(x.bfloat16()).dtype == torch.float32


@every_kind
def test_score_flops_are_those_of_the_equations(tiny: Tiny, feature_map: str, divide: str):
    mixer = build(tiny, feature_map=feature_map, divide=divide)
    q_BHTE = torch.ones(1, H, T, E)
    v_BHTF = mixer.ends.open(q_BHTE)
    state_BHKV = torch.zeros(1, H, E, v_BHTF.shape[-1])
    with FlopCounterMode(display=False) as counter:
        linear_attention_by_token(q_BHTE, q_BHTE, v_BHTF, state_BHKV, None)
    assert counter.get_total_flops() == mixer.score_flops(T) * T
    assert mixer.score_flops_of_all(T) == mixer.score_flops(T)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"n_heads": 5}, "n_heads=5 does not divide .*d_model=48"),
        ({"feature_map": "identity"}, "feature_map=identity .*divide=sum .*take divide=norm"),
    ],
)
def test_what_makes_no_sense_is_refused(tiny: Tiny, settings: Any, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        tiny(attention={"type": "linear"} | settings).build()
