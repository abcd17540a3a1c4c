"""Queries and keys normed and rotated at once, in training, and one by one elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention._query_key_norm import AtOnce, OneByOne
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
ROTARY = {"type": "rotary"}


def build(tiny: Tiny, positions: dict[str, Any], **attention: Any) -> GroupedQueryAttention:
    settings = {"type": "grouped_query", "n_heads": 4, "qk_norm": "rms_norm"} | attention
    (mixer,) = tiny(attention=settings, positions=positions, n_layers=1).build().mixers()
    assert isinstance(mixer, GroupedQueryAttention)
    with torch.no_grad():
        for i, parameter in enumerate(mixer.parameters()):
            generator = torch.Generator().manual_seed(i)
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return mixer


def learned(mixer: GroupedQueryAttention, positions_BT: Tensor) -> list[Tensor]:
    """What a layer gives, and its gradients."""
    generator = torch.Generator().manual_seed(0)
    x_BTD = torch.randn(2, positions_BT.shape[1], mixer.query.in_features, generator=generator)
    mixer.zero_grad()
    y_BTD = mixer(x_BTD.requires_grad_(), Context(Places(positions_BT)))
    y_BTD.square().sum().backward()
    gradients = [x_BTD.grad, *(parameter.grad for parameter in mixer.parameters())]
    assert all(each is not None for each in gradients)
    return [y_BTD.detach(), *(each for each in gradients if each is not None)]


@pytest.mark.parametrize("attention", [
    {}, {"n_kv_heads": 2}, {"qk_norm": {"type": "rms_norm", "offset": True}}, {"bias": True},
    {"d_head": 40},
])  # fmt: skip
@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("rows", [1, 2])
def test_at_once_is_one_by_one(tiny: Tiny, layout: str, rows: int, attention: dict[str, Any]):
    mixer = build(tiny, ROTARY | {"layout": layout}, **attention)
    assert isinstance(mixer.mark, AtOnce)
    positions_BT = torch.arange(24) + torch.tensor([[3], [11]])[:rows]
    ours = learned(mixer, positions_BT)
    mixer.mark = mixer.mark.one_by_one
    for one, other in zip(ours, learned(mixer, positions_BT), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize(("positions", "attention"), [
    (ROTARY, {"qk_norm": "layer_norm"}),
    (ROTARY, {"qk_norm": {"type": "rms_norm", "affine": False}}),
    (ROTARY, {"qk_norm": {"type": "rms_norm", "cast": "llama"}}),
    (ROTARY, {"qk_norm_over": "width"}),
    (ROTARY, {"qk_norm_after_rotation": True}),
    (ROTARY | {"fraction": 0.5}, {}),
    ({"type": "none"}, {}),
    (ROTARY, {"type": "normalized", "qk_norm_after_rotation": False}),
    (ROTARY, {"qk_norm": None}),
])  # fmt: skip
def test_what_is_not_that_norm_and_that_rotation_goes_one_by_one(
    tiny: Tiny, positions: dict[str, Any], attention: dict[str, Any]
):
    assert isinstance(build(tiny, positions, **attention).mark, OneByOne)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_keys_that_other_layers_read_go_one_by_one(
    tiny: Tiny, norm: str, monkeypatch: pytest.MonkeyPatch
):
    """Those may have other norms, and with them another order of the numbers of a head."""
    own: dict[str, Any] = {"type": "grouped_query", "n_heads": 4, "qk_norm": "rms_norm"}
    other = own | {"share_kv": True, "qk_norm": norm}
    attention = {"type": "alternating", "of": [own, own, other]}
    gpt = tiny(attention=attention, positions=ROTARY, n_layers=3).build()
    _, source, reader = gpt.mixers()
    assert isinstance(source, GroupedQueryAttention)
    assert isinstance(reader, GroupedQueryAttention)
    ids_BT = torch.arange(60).view(6, 10) % 20
    with torch.no_grad():
        usual = gpt(ids_BT)
    torch.testing.assert_close(gpt(ids_BT), usual, rtol=1e-4, atol=1e-5)
    changed = source if norm == "layer_norm" else reader
    monkeypatch.setattr(changed, "mark_for", lambda *given: changed.mark.for_pass(*given))
    assert (gpt(ids_BT) - usual).abs().max() > 1e-3


def test_few_rows_do_not_repay_another_order(tiny: Tiny):
    mixer = build(tiny, ROTARY)
    D, context = mixer.query.in_features, Context(Places.counted(0, 8))
    assert isinstance(mixer.mark_for(torch.zeros(1, D, D), context), AtOnce)
    assert isinstance(mixer.mark_for(torch.zeros(1, D - 1, D), context), OneByOne)
