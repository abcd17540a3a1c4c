"""Differential attention against `transformers` and against the paper's equations."""

import math
from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention.differential import DifferentialAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, H, K, T = 48, 4, 2, 24
E = D // H // 2
LAYER = 2


def build(tiny: Tiny, layer: int = LAYER, **changes: Any) -> DifferentialAttention:
    attention = {"type": "differential", "n_heads": H, "n_kv_heads": K} | changes
    norm = {"type": "rms_norm", "eps": 1e-5}
    outside = "none" if attention.get("positions") else "rotary"
    model = tiny(attention=attention, norm=norm, positions=outside, n_layers=layer + 1)
    mixer = model.build().mixers()[layer].eval()
    assert isinstance(mixer, DifferentialAttention)
    return mixer


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1))


def their_layer() -> tuple[nn.Module, Any]:
    pytest.importorskip("transformers")
    theirs: Any = import_module("transformers.models.diffllama.modeling_diffllama")
    config = theirs.DiffLlamaConfig(
        hidden_size=D,
        num_attention_heads=2 * H,
        num_key_value_heads=2 * K,
        max_position_embeddings=T,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    layer = theirs.DiffLlamaAttention(config, layer_idx=LAYER).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return layer, theirs.DiffLlamaRotaryEmbedding(config)


def our_weights(layer: nn.Module, pair: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Their weights under our names; `pair` puts rows in our order of heads."""
    weights = layer.state_dict()
    renamed = {
        "query.weight": pair(weights["q_proj.weight"]),
        "key.weight": pair(weights["k_proj.weight"]),
        "value.weight": pair(weights["v_proj.weight"]),
        "output.weight": weights["o_proj.weight"],
        "norm.weight": torch.ones(2 * E),
    }
    for name, ours in (("lambda_q", "lambda_queries"), ("lambda_k", "lambda_keys")):
        renamed |= {f"{ours}.{i}.weight": weights[f"{name}{i + 1}"] for i in range(2)}
    return renamed


def side_by_side(weight: Tensor) -> Tensor:
    """Their two maps of a head lie half of all heads apart, ours one after the other."""
    return weight.unflatten(0, (2, -1, E)).transpose(0, 1).flatten(0, 2)


@torch.no_grad()
def furthest(mixer: DifferentialAttention, pair: Callable[[Tensor], Tensor]) -> float:
    layer, rotation = their_layer()
    x_BTD = stream()
    hidden_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
    mask_11TT = torch.zeros(1, 1, T, T).masked_fill(hidden_TT, torch.finfo(torch.float32).min)
    expected_BTD = layer(x_BTD, rotation(x_BTD, torch.arange(T)[None]), mask_11TT)[0]
    assert expected_BTD.std() > 0.5
    mixer.load_state_dict(our_weights(layer, pair))
    return (mixer(x_BTD, Context(Places.counted(0, T))) - expected_BTD).abs().max().item()


def test_outputs_are_those_of_transformers(tiny: Tiny):
    assert furthest(build(tiny), side_by_side) <= 2e-5


def test_a_mistake_would_show(tiny: Tiny):
    assert furthest(build(tiny, layer=LAYER + 1), side_by_side) > 1e-2
    assert furthest(build(tiny), lambda weight: weight) > 1e-2
    assert furthest(build(tiny, window=T - 1), side_by_side) > 1e-3


def marked(mixer: DifferentialAttention, name: str, x_BTD: Tensor, settings: dict) -> Tensor:
    """Queries or keys of all maps, normed as the settings say and rotated."""
    gains = {n: p for n, p in mixer.named_parameters() if n.startswith(f"{name}_norm")}
    dims = (-2, -1) if settings.get("qk_norm_over") == "width" else -1

    def norm(x_BTXE: Tensor) -> Tensor:
        for gain in gains.values():
            gain = gain.view(-1, E)
            x_BTXE = gain * x_BTXE / (x_BTXE.square().mean(dims, keepdim=True) + 1e-5).sqrt()
        return x_BTXE

    def rotate(x_BTXE: Tensor) -> Tensor:
        return mixer.rotate(x_BTXE, Context(Places.counted(0, T)))

    x_BTXE = (x_BTD @ mixer.get_parameter(f"{name}.weight").T).unflatten(-1, (-1, E))
    after = settings.get("qk_norm_after_rotation", False)
    return norm(rotate(x_BTXE)) if after else rotate(norm(x_BTXE))


def by_hand(mixer: DifferentialAttention, x_BTD: Tensor, settings: dict, order: int = 1) -> Tensor:
    """The paper's equations, a head at a time; `order` -1 swaps the maps."""
    q_BTXE, k_BTXE = (marked(mixer, name, x_BTD, settings) for name in ("query", "key"))
    hidden_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
    start = 0.8 - 0.6 * math.exp(-0.3 * mixer.layer)
    q1, q2 = (vector() for vector in mixer.lambda_queries)
    k1, k2 = (vector() for vector in mixer.lambda_keys)
    weight = torch.exp(q1 @ k1) - torch.exp(q2 @ k2) + start
    heads = []
    for h in range(H):
        maps = []
        for m in (2 * h, 2 * h + 1):
            kv = 2 * (h * K // H) + m % 2
            q_BTE, k_BTE = q_BTXE[:, :, m], k_BTXE[:, :, kv]
            scores_BTT = (q_BTE @ k_BTE.mT / math.sqrt(E)).masked_fill(hidden_TT, -math.inf)
            maps.append(scores_BTT.softmax(-1))
        v_BTF = x_BTD @ mixer.value.weight.unflatten(0, (K, 2 * E))[h * K // H].T
        first, second = maps[::order]
        y_BTF = (first - weight * second) @ v_BTF
        rms = (y_BTF.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        heads.append(mixer.norm.get_parameter("weight") * y_BTF / rms * (1 - start))
    return torch.cat(heads, -1) @ mixer.output.weight.T


NORM = {"qk_norm": {"type": "rms_norm", "eps": 1e-5}}
SETTINGS: list[dict[str, Any]] = [
    {},
    NORM,
    NORM | {"qk_norm_over": "width"},
    NORM | {"qk_norm_after_rotation": True},
    NORM | {"positions": {"type": "rotary", "base": 50.0}},
]


def perturbed(tiny: Tiny, settings: dict[str, Any]) -> DifferentialAttention:
    mixer = build(tiny, **settings).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mixer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 0.3 * noise
    return mixer


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@torch.no_grad()
def test_outputs_are_those_of_the_equations(tiny: Tiny, settings: dict[str, Any]):
    """With a gain in the heads' norm, which transformers leaves out."""
    mixer, x_BTD = perturbed(tiny, settings), stream().double()
    y_BTD = mixer(x_BTD, Context(Places.counted(0, T)))
    expected_BTD = by_hand(mixer, x_BTD, settings)
    torch.testing.assert_close(y_BTD, expected_BTD, rtol=0, atol=1e-12)
    assert (y_BTD - by_hand(mixer, x_BTD, settings, order=-1)).abs().max() > 1e-2


@torch.no_grad()
def test_another_norm_or_other_positions_would_show(tiny: Tiny):
    x_BTD = stream().double()
    outputs = [
        perturbed(tiny, settings)(x_BTD, Context(Places.counted(0, T))) for settings in SETTINGS
    ]
    pairs = combinations(outputs, 2)
    assert min((a_BTD - b_BTD).abs().max().item() for a_BTD, b_BTD in pairs) > 1e-2


def test_it_takes_the_parameters_of_multi_head_attention_and_its_scores(tiny: Tiny):
    differential = build(tiny, n_kv_heads=H)
    multi_head = tiny(attention={"type": "grouped_query", "n_heads": 2 * H}).build().mixers()[0]
    extra = 4 * E + 2 * E  # the vectors of lambda, and the norm's gain
    assert numbers(differential) == numbers(multi_head) + extra
    assert differential.score_flops(T) == multi_head.score_flops(T)


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_lambda_starts_near_its_start_and_differs_by_layer(tiny: Tiny):
    starts = [build(tiny, layer).start for layer in range(3)]
    assert starts == pytest.approx([0.2, 0.3555, 0.4707], abs=1e-4)
    mixer = build(tiny)
    assert 0 < abs(mixer.weight_of_second().item() - mixer.start) < 0.2
    vectors = [p.detach() for n, p in mixer.named_parameters() if n.startswith("lambda")]
    assert 0.05 < torch.stack(vectors).std() < 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 16, "n_kv_heads": 16}, r"n_heads=16 with two maps each does not divide .*=48"),
        ({"n_heads": 4, "n_kv_heads": 3}, r"n_kv_heads=3 does not divide .*n_heads=4"),
        ({"qk_norm_over": "width"}, r"qk_norm_over=width and .* mean nothing with qk_norm=null"),
        ({"positions": "learned"}, r"model\.attention\.positions=learned marks the token embed"),
        ({"n_heads": 8, "n_kv_heads": 8}, r"model\.positions\.fraction=1.0 of d_head=3 leaves 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny: Tiny, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(tiny, **changes)
