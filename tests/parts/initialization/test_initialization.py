import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptlab.model.gpt import GPT, Model
from gptlab.parts.layers import Embedding, Linear

Tiny = Callable[..., Model]
WIDE = {"d_model": 96, "n_layers": 3, "vocab_size": 200, "context_length": 128}


def by_role(gpt: GPT) -> dict[str, list[Tensor]]:
    weights: dict[str, list[Tensor]] = {}
    for module in gpt.modules():
        if isinstance(module, Linear | Embedding):
            weights.setdefault(module.role, []).append(module.weight)
    return weights


def values(gpt: GPT) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in gpt.named_parameters()}


@pytest.mark.parametrize("scale", [0.02, 0.1])
@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_gpt2_draws_by_role(tiny: Tiny, mlp: str, scale: float):
    initialization = {"type": "gpt2", "scale": scale}
    gpt = tiny(**WIDE, mlp=mlp, head="untied", initialization=initialization).build()
    weights = by_role(gpt)
    assert weights.keys() == {"embedding", "position", "input", "output", "head"}
    assert len(weights["output"]) == 2 * 3
    for role, matrices in weights.items():
        expected = scale / math.sqrt(2 * 3) if role == "output" else scale
        for weight in matrices:
            assert weight.std().item() == pytest.approx(expected, rel=0.05)
            assert abs(weight.mean().item()) < 0.05 * expected


def test_flat_has_one_deviation_for_all(tiny: Tiny):
    initialization = {"type": "flat", "scale": 0.07}
    gpt = tiny(**WIDE, head="untied", initialization=initialization).build()
    for matrices in by_role(gpt).values():
        for weight in matrices:
            assert weight.std().item() == pytest.approx(0.07, rel=0.05)


def test_fan_in_keeps_the_size_of_what_passes(tiny: Tiny):
    initialization = {"type": "fan_in", "gain": 1.5}
    gpt = tiny(**WIDE, mlp={"type": "gelu", "d_ff": 300}, initialization=initialization).build()
    for matrices in by_role(gpt).values():
        for weight in matrices:
            assert weight.std().item() == pytest.approx(1.5 / weight.shape[1] ** 0.5, rel=0.05)
    x = torch.randn(500, 300, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.linear(x, gpt.get_parameter("blocks.1.mlp.down.weight"))
    assert y.std().item() == pytest.approx(1.5, rel=0.05)


def test_depth_scaled_outputs_shrink_with_their_layer(tiny: Tiny):
    """Those of layer l by sqrt(2 (l + 1)), and nothing else by anything."""
    mlp = {"type": "gelu", "d_ff": 300}
    parts = {"mlp": mlp, "head": "untied", "initialization": "depth_scaled"}
    gpt = tiny(**WIDE, **parts, multi_token={"depth": 1}).build()
    for role, matrices in by_role(gpt).items():
        for index, weight in enumerate(matrices):
            depth = 2 * (index // 2 + 1) if role == "output" else 1
            expected = (depth * weight.shape[1]) ** -0.5
            assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert len(by_role(gpt)["output"]) == 2 * (3 + 1)  # the head further ahead is a fourth layer


def test_unit_norm_holds_rows_and_the_columns_of_outputs(tiny: Tiny):
    gpt = tiny(**WIDE, head="untied", initialization="unit_norm").build()
    for role, matrices in by_role(gpt).items():
        for weight in matrices:
            lengths = weight.norm(dim=0 if role == "output" else 1)
            torch.testing.assert_close(lengths, torch.ones_like(lengths))
            assert len(lengths) != 96 or weight.shape == (96, 96)


def test_zero_output_makes_every_block_the_identity(tiny: Tiny):
    gpt = tiny(**WIDE, initialization="zero_output").build()
    weights = by_role(gpt)
    assert all(weight.count_nonzero() == 0 for weight in weights["output"])
    for role in ("embedding", "position", "input"):
        for weight in weights[role]:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    tokens_BT = torch.arange(10)[None]
    embedded_BTD = gpt.embedding(tokens_BT) + gpt.positions.get_parameter("table.weight")[:10]
    torch.testing.assert_close(gpt.read(tokens_BT), gpt.ends.close(embedded_BTD))


@pytest.mark.parametrize("initialization", ["gpt2", "zero_output"])
def test_biases_start_at_zero_and_norms_at_the_identity(tiny: Tiny, initialization: str):
    attention = {"type": "grouped_query", "bias": True, "qk_norm": "rms_norm"}
    mlp = {"type": "gelu", "bias": True}
    gpt = tiny(attention=attention, mlp=mlp, initialization=initialization).build()
    biases = [value for name, value in values(gpt).items() if name.endswith(".bias")]
    assert len(biases) == 2 * (4 + 2 + 2) + 1
    assert all(bias.count_nonzero() == 0 for bias in biases)
    gains = [x for name, x in values(gpt).items() if re.search(r"norms?(\.\d)?\.weight$", name)]
    assert len(gains) == 2 * (2 + 2) + 1
    assert all(gain.eq(1).all() for gain in gains)


def test_a_seed_gives_the_same_values_every_time(tiny: Tiny):
    first, again, other = (values(tiny().build(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].std() > 0]
    assert len(drawn) == 2 + 2 * 6
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_values_do_not_depend_on_the_global_generator(tiny: Tiny):
    torch.manual_seed(1)
    first = values(tiny().build())
    torch.manual_seed(2)
    torch.rand(7)
    again = values(tiny().build())
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_no_two_parameters_share_their_values(tiny: Tiny):
    gpt = tiny(head="untied").build()
    numbers = [value.flatten()[:8] for value in values(gpt).values() if value.std() > 0]
    assert len({tuple(number.tolist()) for number in numbers}) == len(numbers)


@pytest.mark.parametrize(
    "change",
    [
        {"positions": "rotary"},
        {"norm": "rms_norm"},
        {"residual": "sandwich"},
        {"head": "untied"},
        {"mlp": "swiglu"},
        {"n_layers": 5, "initialization": "zero_output"},
        {"attention": {"type": "grouped_query", "n_kv_heads": 3, "qk_norm": "rms_norm"}},
    ],
    ids=str,
)
def test_architectures_share_the_values_of_what_they_share(tiny: Tiny, change: dict):
    a, b = tiny().build(seed=4), tiny(**change).build(seed=4)
    roles = {name: getattr(module, "role", "") for name, module in a.named_modules()}
    left, right = values(a), values(b)
    shared = [name for name in left if name in right and left[name].shape == right[name].shape]
    if change.get("initialization"):  # its outputs are zero on purpose
        shared = [name for name in shared if roles[name.rpartition(".")[0]] != "output"]
    assert sum(left[name].std() > 0 for name in shared) >= 8
    assert all(torch.equal(left[name], right[name]) for name in shared)
