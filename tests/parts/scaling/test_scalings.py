"""Frequencies and factors are those of `transformers`' tables, and of the papers' equations."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.parts.context import Context
from gptlab.parts.positions.rotary import Rotary, RotaryPositions
from gptlab.parts.scaling.yarn import YaRN

E, BASE = 64, 10_000.0
SHORT = [1 + i / 40 for i in range(E // 2)]
LONG = [1.5 + i**1.2 for i in range(E // 2)]
LONGROPE = {"type": "longrope", "original_length": 64, "factors": LONG}
LLAMA3 = {"type": "llama3", "factor": 8, "original_length": 256}

Settings = dict[str, Any]
# our scaling, its model's context length, their name for it, their settings
TABLES: dict[str, tuple[Settings, int, str, Settings]] = {
    "linear": ({"type": "linear", "factor": 4}, 256, "linear", {"factor": 4.0}),
    "dynamic_ntk": (
        {"type": "dynamic_ntk", "original_length": 64, "factor": 2},
        200,
        "dynamic",
        {"factor": 2.0},
    ),
    "dynamic_ntk, not exceeded": (
        {"type": "dynamic_ntk", "original_length": 64, "factor": 2},
        50,
        "dynamic",
        {"factor": 2.0},
    ),
    "yarn": (
        {"type": "yarn", "factor": 4},
        4096,
        "yarn",
        {"factor": 4.0, "original_max_position_embeddings": 1024},
    ),
    "yarn, everything set": (
        {
            "type": "yarn",
            "factor": 7,
            "original_length": 300,
            "beta_fast": 20,
            "beta_slow": 0.5,
            "magnitude": 1.3,
            "truncate": False,
        },
        1000,
        "yarn",
        {
            "factor": 7.0,
            "original_max_position_embeddings": 300,
            "beta_fast": 20,
            "beta_slow": 0.5,
            "attention_factor": 1.3,
            "truncate": False,
        },
    ),
    "yarn, a ramp of no width": (
        {"type": "yarn", "factor": 4, "original_length": 6},
        24,
        "yarn",
        {"factor": 4.0, "original_max_position_embeddings": 6},
    ),
    "yarn, a ramp beyond the last dimension": (
        {"type": "yarn", "factor": 4, "original_length": 350_000, "beta_slow": 1e-4},
        24,
        "yarn",
        {"factor": 4.0, "original_max_position_embeddings": 350_000, "beta_slow": 1e-4},
    ),
    "llama3": (
        LLAMA3,
        1000,
        "llama3",
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
    ),
    "longrope, long": (
        LONGROPE,
        256,
        "longrope",
        {"original_max_position_embeddings": 64, "short_factor": SHORT, "long_factor": LONG},
    ),
    "longrope, short": (
        LONGROPE | {"factors": SHORT},
        64,
        "longrope",
        {"original_max_position_embeddings": 64, "short_factor": SHORT, "long_factor": LONG},
    ),
}
FACTORS = {
    "yarn": 1.13863,
    "yarn, everything set": 1.3,
    "yarn, a ramp of no width": 1.13863,
    "yarn, a ramp beyond the last dimension": 1.13863,
    "longrope, long": 1.15470,
}


def scheme(scaling: Any, context_length: int = 256, **settings: Any) -> RotaryPositions:
    tree = {"type": "rotary", "base": BASE, "scaling": scaling}
    built = Rotary.parse(tree | settings).build(E, context_length)
    assert isinstance(built, RotaryPositions)
    built.check_head(E)
    return built


def frequencies(scaling: Any, context_length: int = 256, **settings: Any) -> Tensor:
    return scheme(scaling, context_length, **settings).frequencies(E, torch.device("cpu"))


def theirs(name: str) -> tuple[Tensor, float]:
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    ours, length, rope_type, settings = TABLES[name]
    config = transformers.LlamaConfig(
        hidden_size=E,
        num_attention_heads=1,
        max_position_embeddings=ours["original_length"] if rope_type == "dynamic" else length,
        rope_parameters={"rope_type": rope_type, "rope_theta": BASE} | settings,
    )
    return ROPE_INIT_FUNCTIONS[rope_type](config, "cpu", seq_len=length)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_transformers(name: str):
    scaling, context_length, *_ = TABLES[name]
    expected_F, factor = theirs(name)
    torch.testing.assert_close(frequencies(scaling, context_length), expected_F, rtol=1e-6, atol=0)
    assert scheme(scaling, context_length).attention_factor == pytest.approx(factor, rel=1e-12)
    assert factor == pytest.approx(FACTORS.get(name, 1.0), abs=1e-5)


MISTAKES: dict[str, tuple[str, Settings]] = {
    "another factor": ("linear", {"type": "linear", "factor": 4.1}),
    "NTK of the whole factor": ("dynamic_ntk", {"type": "ntk", "factor": 2}),
    "rounded ramp": ("yarn, everything set", {"truncate": True}),
    "ramp of other turns": ("yarn", {"beta_slow": 2}),
    "llama3 with other turns": ("llama3", {"high_freq_factor": 3}),
    "llama3 of another length": ("llama3", {"original_length": 300}),
    "the other list": ("longrope, long", {"factors": SHORT}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_show(mistake: str):
    name, changes = MISTAKES[mistake]
    scaling, context_length, *_ = TABLES[name]
    mistaken = changes if "type" in changes else scaling | changes
    ratio_F = frequencies(mistaken, context_length) / theirs(name)[0]
    assert (ratio_F - 1).abs().max() > 0.01


def test_the_ramp_of_yarn_keeps_fast_frequencies_and_divides_slow_ones():
    plain_F, slowed_F = frequencies(None, 4096), frequencies({"type": "yarn", "factor": 4}, 4096)
    turns_F = 1024 * plain_F / (2 * math.pi)
    assert torch.equal(slowed_F[turns_F > 50], plain_F[turns_F > 50])
    torch.testing.assert_close(slowed_F[turns_F < 0.7], plain_F[turns_F < 0.7] / 4)
    assert ((slowed_F / plain_F).diff() <= 1e-6).all()
    between = (turns_F > 2) & (turns_F < 25)
    assert (slowed_F[between] < plain_F[between]).all()
    assert (slowed_F[between] > plain_F[between] / 4).all()


@pytest.mark.parametrize(("original_length", "divisor"), [(1, 4), (10**13, 1)])
def test_a_ramp_that_no_frequency_is_on_is_not_turned_round(original_length: int, divisor: float):
    """Lengths at which all turn less than beta_slow, or more than beta_fast, times."""
    scaling = {"type": "yarn", "factor": 4, "original_length": original_length}
    torch.testing.assert_close(frequencies(scaling), frequencies(None) / divisor)


def test_an_inverted_ramp_would_show(monkeypatch: pytest.MonkeyPatch):
    ramp = YaRN.ramp
    monkeypatch.setattr(YaRN, "ramp", lambda *sizes: ramp(*sizes)[::-1])
    ratio_F = frequencies({"type": "yarn", "factor": 4}, 4096) / theirs("yarn")[0]
    assert (ratio_F - 1).abs().max() > 0.5


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_ntk_is_a_larger_base(factor: float):
    """With base * factor^(R / (R - 2)) in its place (arXiv:2309.00071, section 3.1)."""
    base = BASE * factor ** (E / (E - 2))
    expected = [base ** (-2 * i / E) for i in range(E // 2)]
    frequency_F = frequencies({"type": "ntk", "factor": factor})
    torch.testing.assert_close(frequency_F, torch.tensor(expected), rtol=1e-6, atol=0)
    assert frequency_F[0] == 1
    assert frequency_F[-1].item() == pytest.approx(BASE ** (2 / E - 1) / factor, rel=1e-6)


ONES = [1] * (E // 2)


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "linear", "factor": 1},
        {"type": "ntk", "factor": 1},
        {"type": "dynamic_ntk", "original_length": 256, "factor": 4},
        {"type": "yarn", "factor": 1},
        {"type": "yarn", "factor": 1, "original_length": 999},
        {"type": "llama3", "factor": 1},
        LONGROPE | {"factors": ONES, "original_length": 256},
    ],
    ids=lambda scaling: scaling["type"],
)
def test_a_scaling_of_one_is_plain(scaling: Settings):
    torch.testing.assert_close(frequencies(scaling), frequencies(None), rtol=1e-7, atol=0)
    assert scheme(scaling).attention_factor == 1


@pytest.mark.parametrize("name", FACTORS)
def test_queries_and_keys_are_multiplied_by_the_attention_factor(name: str):
    scaling, context_length, *_ = TABLES[name]
    x_BTHE = torch.randn(1, 5, 2, E, generator=torch.Generator().manual_seed(0))
    rotated = scheme(scaling, context_length).rotate(x_BTHE, Context(Places.counted(0, 5)))
    length = rotated.norm(dim=-1) / x_BTHE.norm(dim=-1)
    torch.testing.assert_close(length, torch.full_like(length, FACTORS[name]), rtol=1e-5, atol=0)


def test_a_length_that_is_not_given_is_that_of_the_context_before_it_grew():
    for variant in ("yarn", "llama3"):
        given = {"type": variant, "factor": 4, "original_length": 1024}
        left_out = {"type": variant, "factor": 4}
        assert torch.equal(frequencies(given, 4096), frequencies(left_out, 4096))
        assert not torch.equal(frequencies(given, 4096), frequencies(left_out, 2048))


def test_frequencies_follow_the_context_length_and_not_the_text_at_hand():
    """So a cached key never becomes stale."""
    scaling, context_length, *_ = TABLES["dynamic_ntk"]
    rotary = scheme(scaling, context_length)
    x_BTHE = torch.randn(1, 150, 1, E, generator=torch.Generator().manual_seed(0))
    long = rotary.rotate(x_BTHE, Context(Places.counted(0, 150)))
    short = rotary.rotate(x_BTHE[:, :20], Context(Places.counted(0, 20)))
    assert torch.equal(long[:, :20], short)
    assert not torch.equal(frequencies(scaling, context_length), frequencies(scaling, 64))


def test_half_a_head_is_scaled_as_if_there_were_no_other_half():
    scaling = {"type": "yarn", "factor": 4}
    rotary = Rotary.parse({"type": "rotary", "scaling": scaling}).build(E, 4096)
    assert isinstance(rotary, RotaryPositions)
    half_F = frequencies(scaling, 4096, fraction=0.5)
    assert torch.equal(half_F, rotary.frequencies(E // 2, torch.device("cpu")))


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (
            {"type": "yarn", "factor": 2, "beta_fast": 1},
            r"^model\.positions\.scaling\.beta_fast=1.0 .* beta_slow=1.0",
        ),
        (
            {"type": "llama3", "low_freq_factor": 5},
            r"^model\.positions\.scaling\.high_freq_factor=4.0 .*=5.0",
        ),
        (LONGROPE | {"factors": [1, 2]}, r"scaling\.factors has 2 numbers; .* 32 frequencies"),
        ({"type": "linear", "factor": 0.5}, r"scaling\.factor: .* greater than or equal to 1"),
        ({"type": "linear"}, r"scaling\.factor: Field required"),
    ],
)
def test_settings_that_do_not_fit_are_refused(scaling: Settings, message: str):
    with pytest.raises(ValueError, match=message):
        scheme(scaling)


@pytest.mark.parametrize("variant", ["ntk", "dynamic_ntk"])
def test_one_frequency_cannot_be_stretched_by_its_base(variant: str):
    scaling = {"ntk": {"factor": 2}, "dynamic_ntk": {"original_length": 9}}[variant]
    rotary = Rotary.parse({"type": "rotary", "scaling": scaling | {"type": variant}})
    with pytest.raises(ValueError, match="at least 4 dimensions"):
        rotary.build(E, 64).check_head(2)
    rotary.build(E, 64).check_head(4)
