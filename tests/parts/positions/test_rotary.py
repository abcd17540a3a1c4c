import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.context import Context
from gptlab.parts.positions.rotary import Rotary, RotaryPositions

LAYOUTS = ["half", "interleaved"]
T, H, E = 11, 3, 8


def rotate(x_BTHE: Tensor, positions_T: Tensor, **settings) -> Tensor:
    return Rotary(**settings).build(24, 64).rotate(x_BTHE, Context(Places(positions_T[None])))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def definition(x_E: list[float], t: int, base: float, layout: str) -> list[float]:
    """Turn each pair by t * base^(-2i/R), in double precision."""
    R, turned = len(x_E), list(x_E)
    for i in range(R // 2):
        first, second = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + R // 2)
        angle = t * base ** (-2 * i / R)
        a, b = x_E[first], x_E[second]
        turned[first] = a * math.cos(angle) - b * math.sin(angle)
        turned[second] = b * math.cos(angle) + a * math.sin(angle)
    return turned


@pytest.mark.parametrize("base", [100.0, 10_000.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_turned_by_their_angles(layout: str, base: float):
    x_BTHE = draw(1, T, 1, E)
    turned_BTHE = rotate(x_BTHE, torch.arange(T) + 3, layout=layout, base=base)
    for t in range(T):
        expected = definition(x_BTHE[0, t, 0].tolist(), t + 3, base, layout)
        torch.testing.assert_close(turned_BTHE[0, t, 0], torch.tensor(expected))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_norms_are_kept_and_position_zero_is_left_alone(layout: str):
    x_BTHE = draw(2, T, H, E)
    turned_BTHE = rotate(x_BTHE, torch.arange(T) * 37, layout=layout)
    torch.testing.assert_close(turned_BTHE.norm(dim=-1), x_BTHE.norm(dim=-1))
    assert torch.equal(turned_BTHE[:, 0], x_BTHE[:, 0])
    assert not torch.allclose(turned_BTHE[:, 1], x_BTHE[:, 1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_depend_on_distance_only(layout: str):
    q_BTHE, k_BTHE = draw(2, 1, T, 1, E).unbind(0)

    def scores(shift: int) -> Tensor:
        positions_T = torch.arange(T) + shift
        q = rotate(q_BTHE, positions_T, layout=layout)
        return q[0, :, 0] @ rotate(k_BTHE, positions_T, layout=layout)[0, :, 0].T

    torch.testing.assert_close(scores(0), scores(500), rtol=0, atol=2e-4)
    assert (scores(0) - q_BTHE[0, :, 0] @ k_BTHE[0, :, 0].T).abs().max() > 0.1


def test_layouts_are_the_same_up_to_the_order_of_dimensions():
    """Half's dimension (i, i + E/2) is interleaved's (2i, 2i + 1)."""
    x_BTHE, positions_T = draw(2, T, H, E), torch.arange(T)
    order = torch.arange(E).view(2, E // 2).T.flatten()
    half = rotate(x_BTHE, positions_T, layout="half")[..., order]
    interleaved = rotate(x_BTHE[..., order], positions_T, layout="interleaved")
    assert torch.equal(half, interleaved)
    assert not torch.allclose(half, rotate(x_BTHE, positions_T, layout="interleaved"))


@torch.no_grad()
def test_a_model_of_one_layout_is_one_of_the_other_with_its_rows_permuted(
    tiny: Callable[..., Model],
):
    half = tiny(positions={"type": "rotary", "layout": "half"}).build()
    interleaved = tiny(positions={"type": "rotary", "layout": "interleaved"}).build()
    tokens_BT = torch.randint(31, (2, T), generator=torch.Generator().manual_seed(0))
    for gpt in (half, interleaved):
        for mixer in gpt.mixers():
            mixer.get_submodule("query").get_parameter("weight").mul_(20)
            mixer.get_submodule("key").get_parameter("weight").mul_(20)
    assert (half(tokens_BT) - interleaved(tokens_BT)).abs().max() > 1e-4
    for mixer in interleaved.mixers():
        for name in ("query", "key"):
            weight = mixer.get_submodule(name).get_parameter("weight")
            d_head = weight.shape[0] // 12
            pairs = weight.unflatten(0, (12, 2, d_head // 2)).transpose(1, 2)
            weight.copy_(pairs.reshape(weight.shape))
    torch.testing.assert_close(half(tokens_BT), interleaved(tokens_BT), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_fraction_turns_the_first_dimensions_as_if_there_were_no_others(layout: str):
    x_BTHE, positions_T = draw(2, T, H, E), torch.arange(T)
    turned = rotate(x_BTHE, positions_T, layout=layout, fraction=0.5)
    assert torch.equal(turned[..., E // 2 :], x_BTHE[..., E // 2 :])
    assert torch.equal(
        turned[..., : E // 2], rotate(x_BTHE[..., : E // 2], positions_T, layout=layout)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_angles_are_exact_in_bfloat16(layout: str):
    """A position counted in bfloat16 would be wrong by up to 4 at 1000, the angle with it."""
    x_BTHE, t = draw(1, 1, 1, E).bfloat16(), 1003
    turned = rotate(x_BTHE, torch.tensor([t]), layout=layout)
    assert turned.dtype == torch.bfloat16
    expected = torch.tensor(definition(x_BTHE.flatten().tolist(), t, 10_000.0, layout))
    torch.testing.assert_close(turned.flatten().float(), expected, rtol=0, atol=0.03)
    rounded = torch.tensor(definition(x_BTHE.flatten().tolist(), 1000, 10_000.0, layout))
    assert (expected - rounded).abs().max() > 0.5


@pytest.mark.parametrize(
    ("settings", "d_head", "numbers"),
    [
        ({}, 7, ["1.0", "7"]),
        ({"fraction": 0.25}, 12, ["0.25", "12"]),
        ({"fraction": 0.1}, 8, ["8"]),
    ],
)
def test_dimensions_must_come_in_pairs(settings: dict, d_head: int, numbers: list[str]):
    with pytest.raises(ValueError, match=r"^model\.positions\.fraction") as error:
        Rotary(**settings).build(24, 64).check_head(d_head)
    assert all(number in str(error.value) for number in numbers)


def test_it_is_transformers_rotation():
    transformers = pytest.importorskip("transformers")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = transformers.LlamaConfig(
        hidden_size=H * E,
        num_attention_heads=H,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    q_BTHE, positions_T = draw(2, T, H, E), torch.arange(T) + 7
    cos, sin = llama.LlamaRotaryEmbedding(config)(q_BTHE, positions_T[None])
    expected, _ = llama.apply_rotary_pos_emb(q_BTHE, q_BTHE, cos, sin, unsqueeze_dim=2)
    turned = rotate(q_BTHE, positions_T, layout="half", base=500.0)
    torch.testing.assert_close(turned, expected, rtol=0, atol=5e-6)
    other = rotate(q_BTHE, positions_T, layout="interleaved", base=500.0)
    assert (other - expected).abs().max() > 0.5


def proportional(fraction: float, layout: str = "half") -> RotaryPositions:
    rotary = Rotary.parse(
        {"type": "rotary", "proportional": True, "fraction": fraction, "layout": layout}
    )
    built = rotary.build(24, 64)
    assert isinstance(built, RotaryPositions)
    return built


@pytest.mark.parametrize("fraction", [0.25, 0.3, 0.75])
def test_proportional_frequencies_are_transformers(fraction: float):
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = {"rope_theta": 10_000.0, "partial_rotary_factor": fraction}
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_attention_heads=1,
        rope_parameters=parameters | {"rope_type": "proportional"},
    )
    expected_F, _ = ROPE_INIT_FUNCTIONS["proportional"](config)
    frequency_F = proportional(fraction).frequencies(64, torch.device("cpu"))
    torch.testing.assert_close(frequency_F, expected_F, rtol=1e-6, atol=0)
    assert 0 < frequency_F.count_nonzero() < 32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_proportional_part_turns_as_it_does_in_the_whole_head(layout: str):
    x_BTHE, positions_T = draw(2, T, H, E), torch.arange(T)
    whole = rotate(x_BTHE, positions_T, layout=layout)
    turned = proportional(0.5, layout).rotate(x_BTHE, Context(Places(positions_T[None])))
    pairs = {"half": [0, 1, 4, 5], "interleaved": [0, 1, 2, 3]}[layout]
    others = [i for i in range(E) if i not in pairs]
    assert torch.equal(turned[..., pairs], whole[..., pairs])
    assert torch.equal(turned[..., others], x_BTHE[..., others])
    assert not torch.allclose(rotate(x_BTHE, positions_T, layout=layout, fraction=0.5), turned)


def test_a_proportional_part_is_less_than_the_whole_and_at_least_a_pair():
    with pytest.raises(ValueError, match=r"positions\.proportional=true .*fraction=1\.0"):
        proportional(1.0).check_head(8)
    with pytest.raises(ValueError, match=r"fraction=0\.2 of d_head=8 leaves 0 dimensions"):
        proportional(0.2).check_head(8)
    with pytest.raises(ValueError, match=r"d_head=7 leaves 7 dimensions"):
        proportional(0.5).check_head(7)
    proportional(0.25).check_head(8)


def test_schemes_of_the_same_settings_share_angles_and_others_do_not():
    context, x_BTHE = Context(Places.counted(0, T)), draw(2, T, H, E)
    first = Rotary(base=100.0).build(24, 64).rotate(x_BTHE, context)
    again = Rotary(base=100.0).build(24, 64).rotate(x_BTHE, context)
    assert torch.equal(first, again)
    assert len(context._computed) == 1
    others: list[tuple[dict, int]] = [
        ({"base": 101.0}, 64),
        ({"base": 100.0, "layout": "interleaved"}, 64),
        ({"base": 100.0, "scaling": {"type": "linear", "factor": 2}}, 64),
        ({"base": 100.0, "scaling": {"type": "dynamic_ntk", "original_length": 64}}, 128),
        ({"base": 100.0, "scaling": {"type": "dynamic_ntk", "original_length": 64}}, 256),
    ]
    for settings, context_length in others:
        scheme = Rotary.parse({"type": "rotary"} | settings).build(24, context_length)
        alone = scheme.rotate(x_BTHE, Context(Places.counted(0, T)))
        assert torch.equal(scheme.rotate(x_BTHE, context), alone)
        assert not torch.allclose(alone, first)
    assert len(context._computed) == 1 + len(others)
