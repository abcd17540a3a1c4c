"""Gates and value residuals against their equations; what does not fit together; long texts."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, L = 48, 4, 3
E = D // H
WIDTHS = {"elementwise": E, "head": 1}


def build(tiny: Tiny, n_layers: int = 1, positions: str = "none", **settings: Any) -> GPT:
    """Build a model in float64 with weights large enough to make it choose."""
    attention = {"type": "grouped_query", "n_heads": H} | settings
    model = tiny(attention=attention, positions=positions, n_layers=n_layers, context_length=400)
    gpt = model.build().eval().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in gpt.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    return gpt


def mixers(gpt: GPT) -> list[GroupedQueryAttention]:
    return [mixer for mixer in gpt.mixers() if isinstance(mixer, GroupedQueryAttention)]


def stream(T: int) -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def heads_of(x_BTX: Tensor) -> list[Tensor]:
    return list(x_BTX.split(E, dim=-1))


def read_by_hand(mixer: GroupedQueryAttention, x_BTD: Tensor, v_BTD: Tensor) -> list[Tensor]:
    """What each head reads, before the output projection."""
    hidden_TT = torch.ones(x_BTD.shape[1], x_BTD.shape[1], dtype=torch.bool).triu(1)
    queries, keys = heads_of(mixer.query(x_BTD)), heads_of(mixer.key(x_BTD))
    return [
        (q_BTE @ k_BTE.mT / E**0.5).masked_fill(hidden_TT, -torch.inf).softmax(-1) @ v_BTE
        for q_BTE, k_BTE, v_BTE in zip(queries, keys, heads_of(v_BTD), strict=True)
    ]


@pytest.mark.parametrize("gate", ["elementwise", "head"])
@torch.no_grad()
def test_a_gate_is_a_sigmoid_of_what_the_layer_reads(tiny: Tiny, gate: str):
    mixer, x_BTD = mixers(build(tiny, gate=gate))[0], stream(9)
    gate_of_head = mixer.gate.get_parameter("matrix.weight").unflatten(0, (H, WIDTHS[gate]))

    def by_hand(order: list[int]) -> Tensor:
        heads = read_by_hand(mixer, x_BTD, mixer.value(x_BTD))
        gated = [
            y_BTE / (1 + torch.exp(-x_BTD @ gate_of_head[h].T))
            for h, y_BTE in zip(order, heads, strict=True)
        ]
        return mixer.output(torch.cat(gated, dim=-1))

    y_BTD = mixer(x_BTD, Context(Places.counted(0, 9)))
    torch.testing.assert_close(y_BTD, by_hand([0, 1, 2, 3]), rtol=0, atol=1e-12)
    assert (y_BTD - by_hand([1, 0, 2, 3])).abs().max() > 1e-2


def logits_by_hand(gpt: GPT, tokens_BT: Tensor, shared: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """A pre-norm model, written out; `shared` picks what is mixed in from all raw values so far."""
    x_BTD = gpt.embedding(tokens_BT)
    raw = []
    blocks: Any = gpt.blocks
    for layer, block in enumerate(blocks):
        mixer, norms = block.attention, block.residual.norms
        read_BTD = norms[0](x_BTD)
        raw.append(mixer.value(read_BTD))
        v_BTD = raw[0]
        if layer > 0:
            mix = mixer.mix_values
            v_BTD = mix.own * raw[layer] + mix.first * shared(raw)
        x_BTD = x_BTD + mixer.output(torch.cat(read_by_hand(mixer, read_BTD, v_BTD), dim=-1))
        x_BTD = x_BTD + block.mlp(norms[1](x_BTD), Context(Places.counted(0, 9)))
    ends: Any = gpt.ends
    return ends.close(x_BTD) @ gpt.embedding.weight.T


def test_later_layers_mix_in_the_raw_values_of_the_first(tiny: Tiny):
    """And the first layer learns from what later ones make of its values."""
    gpt = build(tiny, n_layers=L, value_residual=True)
    matrices = [mixer.value.weight for mixer in mixers(gpt)]
    assert len([p for p in gpt.parameters() if p.ndim == 0]) == 2 * (L - 1)
    tokens_BT = torch.arange(18).view(2, 9)

    def logits_and_gradients(logits_BTV: Tensor) -> tuple[Tensor, ...]:
        return logits_BTV, *torch.autograd.grad(logits_BTV.cos().sum(), matrices)

    ours = logits_and_gradients(gpt.head.scores(gpt.read(tokens_BT), gpt.embedding.weight))
    by_hand = logits_and_gradients(logits_by_hand(gpt, tokens_BT, lambda raw: raw[0]))
    torch.testing.assert_close(ours, by_hand, rtol=0, atol=1e-10)
    before = logits_by_hand(gpt, tokens_BT, lambda raw: raw[-2])
    assert (ours[0] - before).abs().max() > 1e-2


def test_a_value_residual_starts_with_halves(tiny: Tiny):
    gpt = tiny(attention={"type": "grouped_query", "value_residual": True}).build()
    assert [p.item() for p in gpt.parameters() if p.ndim == 0] == [0.5, 0.5]


OPTIONS = [
    {"sinks": True, "gate": "head"},
    {"softcap": 1.5, "sinks": True, "d_head": 10},
    {"qk_norm": "rms_norm", "qk_norm_over": "width", "qk_norm_after_rotation": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("window", [None, 1, 127, 128, 129])
@torch.no_grad()
def test_long_texts_in_pieces_give_what_they_give_at_once(
    tiny: Tiny, window: int | None, positions: str, options: dict[str, Any]
):
    gpt = build(tiny, positions=positions, n_kv_heads=2, window=window, **options)
    mixer, x_BTD, T = mixers(gpt)[0], stream(300), 300
    expected_BTD = mixer(x_BTD, Context(Places.counted(0, T)))
    rng = random.Random(window)
    at_random = [sorted(rng.sample(range(1, T), 5)) for _ in range(2)]
    for cuts in ([128], [127, 128, 129], [1, 2, 130], *at_random):
        cache = mixer.new_cache(T)
        pieces = [
            mixer(x_BTD[:, start:end], Context(Places.counted(start, end), [cache]))
            for start, end in zip([0, *cuts], [*cuts, T], strict=True)
        ]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected_BTD, rtol=0, atol=1e-6)


def test_heads_may_be_of_any_width(tiny: Tiny):
    mixer = mixers(build(tiny, n_heads=5, d_head=7))[0]
    assert mixer.query.weight.shape == (35, D)
    assert mixer.output.weight.shape == (D, 35)
    assert mixer.score_flops(100) == 4 * 35 * (1 + 100) / 2


def alternating(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    local = {"type": "grouped_query", "n_heads": H}
    return {"type": "alternating", "of": [local | first, local | second]}


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (
            {"type": "grouped_query", "qk_norm_over": "width"},
            r"qk_norm_over=width and qk_norm_after_rotation=false mean nothing with qk_norm=null",
        ),
        (
            {"type": "grouped_query", "qk_norm_after_rotation": True},
            r"qk_norm_over=head and qk_norm_after_rotation=true mean nothing with qk_norm=null",
        ),
        (
            alternating({}, {"value_residual": True}),
            r"value_residual=true in layer 1, but the first layer shares no values",
        ),
        (
            alternating({"value_residual": True, "n_kv_heads": 2}, {"value_residual": True}),
            r"n_kv_heads=4 of d_head=12 in layer 1 with n_kv_heads=2 of d_head=12 in the first",
        ),
        ({"type": "grouped_query", "softcap": 0.0}, r"^attention\.softcap: Input should be great"),
        ({"type": "grouped_query", "scale": -1.0}, r"^attention\.scale: Input should be greater"),
        ({"type": "grouped_query", "gate": "both"}, r"^attention\.gate: "),
    ],
)
def test_what_does_not_fit_together_is_refused(tiny: Tiny, attention: dict, message: str):
    with pytest.raises(ValueError, match=message):
        tiny(attention=attention).build()


def test_a_value_residual_needs_a_second_layer(tiny: Tiny):
    with pytest.raises(ValueError, match=r"value_residual=true .*model\.n_layers=1 has none"):
        tiny(attention={"type": "grouped_query", "value_residual": True}, n_layers=1).build()
