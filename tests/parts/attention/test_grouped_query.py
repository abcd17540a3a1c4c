import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import NOWHERE, Places
from gptlab.model.gpt import Model
from gptlab.parts.attention import Mixer
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D = 48


def build(
    tiny: Tiny, positions: str = "rotary", seed: int = 0, **settings
) -> GroupedQueryAttention:
    """Build one attention layer with weights large enough to make it choose."""
    attention = {"type": "grouped_query", "n_heads": 4} | settings
    model = tiny(attention=attention, positions=positions, n_layers=1, context_length=400)
    mixer = model.build(seed).mixers()[0].eval()
    assert isinstance(mixer, GroupedQueryAttention)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return mixer


def stream(T: int, B: int = 2) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))


def apply(mixer: Mixer, x_BTD: Tensor) -> Tensor:
    return mixer(x_BTD, Context(Places.counted(0, x_BTD.shape[1])))


def weights(mixer: Mixer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in mixer.named_parameters()}


def test_as_many_key_heads_as_query_heads_is_multi_head_attention(tiny: Tiny):
    multi_head, grouped = build(tiny), build(tiny, n_kv_heads=4)
    assert weights(multi_head).keys() == weights(grouped).keys()
    assert torch.equal(apply(multi_head, stream(9)), apply(grouped, stream(9)))


@pytest.mark.parametrize("n_kv_heads", [1, 2])
def test_query_heads_in_a_row_share_a_key_head(tiny: Tiny, n_kv_heads: int):
    """Grouped attention is multi-head attention whose key and value heads are repeated in place."""
    grouped, multi_head = build(tiny, n_kv_heads=n_kv_heads), build(tiny)
    shared = weights(grouped)
    repeated = {
        name: repeat_heads(weight, 4 // n_kv_heads)
        if name.startswith(("key.", "value."))
        else weight
        for name, weight in shared.items()
    }
    multi_head.load_state_dict(repeated)
    torch.testing.assert_close(apply(grouped, stream(9)), apply(multi_head, stream(9)))


def repeat_heads(weight: Tensor, times: int) -> Tensor:
    return weight.unflatten(0, (-1, D // 4)).repeat_interleave(times, dim=0).flatten(0, 1)


@pytest.mark.parametrize("window", [9, 10, 1000])
def test_a_window_of_the_whole_text_changes_nothing(tiny: Tiny, window: int):
    full, windowed = build(tiny), build(tiny, window=window)
    torch.testing.assert_close(apply(windowed, stream(9)), apply(full, stream(9)))
    assert (apply(build(tiny, window=8), stream(9)) - apply(full, stream(9))).abs().max() > 1e-2


def test_a_layer_reaches_back_as_far_as_its_window(tiny: Tiny):
    x_BTD, mixer = stream(30, B=1), build(tiny, window=7)
    edited_BTD = x_BTD.clone()
    edited_BTD[:, 10] += 1
    change_T = (apply(mixer, edited_BTD) - apply(mixer, x_BTD)).abs().amax(dim=(0, 2))
    assert change_T.nonzero().flatten().tolist() == list(range(10, 17))


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_queries_and_keys_are_normed_per_head_before_rotation(tiny: Tiny, norm: str):
    """The whole layer by hand, one head at a time; the norm after the rotation would differ."""
    mixer = build(tiny, n_kv_heads=2, qk_norm=norm)
    x_BTD = stream(9)
    context = Context(Places.counted(0, 9))
    assert mixer.query_norm.get_parameter("weight").shape == (D // 4,)

    def by_hand(prepare: Callable[[nn.Module, Tensor], Tensor]) -> Tensor:
        heads = []
        for h in range(4):
            q_BT1E = head(mixer, "query", h, x_BTD)[:, :, None]
            k_BT1E = head(mixer, "key", h // 2, x_BTD)[:, :, None]
            q_BTE = prepare(mixer.query_norm, q_BT1E)[:, :, 0]
            k_BTE = prepare(mixer.key_norm, k_BT1E)[:, :, 0]
            scores_BTT = q_BTE @ k_BTE.mT / (D // 4) ** 0.5
            hidden_TT = torch.ones(9, 9, dtype=torch.bool).triu(1)
            weights_BTT = scores_BTT.masked_fill(hidden_TT, -torch.inf).softmax(-1)
            heads.append(weights_BTT @ head(mixer, "value", h // 2, x_BTD))
        return torch.cat(heads, dim=-1) @ mixer.get_parameter("output.weight").T

    y_BTD = apply(mixer, x_BTD)
    rotate = mixer.mark.one_by_one.rotate
    before = by_hand(lambda norm, x: rotate(norm(x), context))
    after = by_hand(lambda norm, x: norm(rotate(x, context)))
    torch.testing.assert_close(y_BTD, before, rtol=0, atol=1e-5)
    assert (y_BTD - after).abs().max() > 1e-2


def head(mixer: Mixer, name: str, h: int, x_BTD: Tensor) -> Tensor:
    rows = slice(h * D // 4, (h + 1) * D // 4)
    return x_BTD @ mixer.get_parameter(f"{name}.weight")[rows].T


def test_biases_are_a_setting(tiny: Tiny):
    names = {"query", "key", "value", "output"}
    assert {f"{name}.bias" for name in names} <= weights(build(tiny, bias=True)).keys()
    assert {f"{name}.weight" for name in names} == weights(build(tiny)).keys()


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("window", [None, 1, 2, 127, 128, 129, 200])
@torch.no_grad()
def test_long_texts_in_pieces_give_what_they_give_at_once(
    tiny: Tiny, window: int | None, positions: str
):
    mixer, x_BTD, T = build(tiny, positions, n_kv_heads=2, window=window), stream(300), 300
    expected_BTD = apply(mixer, x_BTD)
    rng = random.Random(window)
    at_random = [sorted(rng.sample(range(1, T), 5)) for _ in range(4)]
    for cuts in ([128], [127, 128, 129], [1, 2, 130], [200, 201, 202], *at_random):
        cache = mixer.new_cache(T)
        pieces = [
            mixer(x_BTD[:, start:end], Context(Places.counted(start, end), [cache]))
            for start, end in zip([0, *cuts], [*cuts, T], strict=True)
        ]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected_BTD, rtol=0, atol=2e-5)


def test_a_cache_holds_unexpanded_heads_and_no_more_than_the_window(tiny: Tiny):
    for window, slots in ((7, 7), (None, 100), (1000, 100)):
        mixer = build(tiny, n_kv_heads=2, window=window)
        cache = mixer.new_cache(100)
        for t in range(20):
            mixer(stream(1), Context(Places.counted(t, t + 1), [cache]))
        assert cache.keys_BKSE.shape == cache.values_BKSE.shape == (2, 2, slots, D // 4)


def test_a_cache_grows_in_memory_that_was_taken_at_once(tiny: Tiny):
    mixer, x_BTD = build(tiny, n_kv_heads=2), stream(20)
    cache, large, where = mixer.new_cache(3), mixer.new_cache(20), []
    for t in range(20):
        if t in (3, 4, 9, 14):
            cache.resize({3: 4, 4: 9, 9: 14, 14: 20}[t], most=20)
            where.append((cache.keys_BKSE.data_ptr(), cache.values_BKSE.data_ptr()))
            assert cache.keys_BKSE.is_contiguous()
            assert not cache.keys_BKSE[:, :, t:].any()
        y_B1D, expected_B1D = (
            mixer(x_BTD[:, t : t + 1], Context(Places.counted(t, t + 1), [each]))
            for each in (cache, large)
        )
        torch.testing.assert_close(y_B1D, expected_B1D)
    assert torch.equal(cache.keys_BKSE, large.keys_BKSE)
    assert torch.equal(cache.values_BKSE, large.values_BKSE)
    assert len(set(where)) == 1


def test_a_ring_keeps_the_newest_positions(tiny: Tiny):
    mixer, x_BTD = build(tiny, window=5), stream(14)
    cache, all_of_it = mixer.new_cache(100), mixer.new_cache(14)
    all_of_it.is_ring, all_of_it.size = False, 14
    mixer(x_BTD, Context(Places.counted(0, 14), [all_of_it]))
    for start, end in ((0, 3), (3, 4), (4, 11), (11, 12), (12, 14)):
        places = Places.counted(start, end)
        mixer(x_BTD[:, start:end], Context(places, [cache]))
        held_S = places.held(5).positions_BT[0]
        assert sorted(p for p in held_S.tolist() if p != NOWHERE) == [*range(max(0, end - 5), end)]
        is_there_S = held_S != NOWHERE
        expected = all_of_it.keys_BKSE[:, :, held_S[is_there_S]]
        torch.testing.assert_close(cache.keys_BKSE[:, :, is_there_S], expected)


@pytest.mark.parametrize("window", [None, 11, 1000])
@pytest.mark.parametrize("T", [1, 2, 5])
def test_a_cache_that_cannot_hold_what_is_visible_says_so(tiny: Tiny, window: int | None, T: int):
    """A window larger than the capacity makes no ring: keys would be lost in silence."""
    mixer = build(tiny, window=window)
    cache = mixer.new_cache(10)
    mixer(stream(10), Context(Places.counted(0, 10), [cache]))
    with pytest.raises((IndexError, RuntimeError), match="is out of bounds"):
        mixer(stream(T), Context(Places.counted(10, 10 + T), [cache]))


def test_score_flops_count_what_is_visible(tiny: Tiny):
    """Two FLOPs per multiplication and addition, for scores and for their use."""
    assert build(tiny).score_flops(100) == 4 * D * (1 + 100) / 2
    windowed = build(tiny, window=10).score_flops(100)
    assert windowed == pytest.approx(4 * D * (55 + 90 * 10) / 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 5}, r"model\.attention\.n_heads=5 does not divide model\.d_model=48"),
        (
            {"n_heads": 6, "n_kv_heads": 4},
            r"model\.attention\.n_kv_heads=4 does not divide model\.attention\.n_heads=6",
        ),
        (
            {"n_heads": 4, "n_kv_heads": 8},
            r"model\.attention\.n_kv_heads=8 does not divide model\.attention\.n_heads=4",
        ),
        ({"window": 0}, r"^attention\.window: Input should be greater than 0 \(got '0'\)$"),
        ({"window": -5}, r"^attention\.window: Input should be greater than 0"),
        ({"n_kv_heads": 0}, r"^attention\.n_kv_heads: Input should be greater than 0"),
        ({"n_heads": 16}, r"model\.positions\.fraction=1.0 of d_head=3 leaves 3 dimensions"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny: Tiny, settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        build(tiny, **settings)
