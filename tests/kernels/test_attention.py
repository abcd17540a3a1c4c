"""Attention against its definition, written out with explicit heads and masks in float64."""

import math
from functools import lru_cache

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptlab.kernels.attention import BAND, attend, visible_keys
from gptlab.kernels.places import Places

LENGTHS = (1, 2, 7, 127, 128, 129, 300)
WINDOWS = (None, 1, 2, 5, 127, 128, 129, 256, 300, 1000)
HEADS = ((1, 1), (4, 4), (4, 2), (6, 2), (3, 1))
E = 4

QKV = tuple[Tensor, Tensor, Tensor]


@lru_cache
def sees(query_positions: tuple[int, ...], key_positions: tuple[int, ...], window: int | None):
    """What may be seen, key by key: a window of W is W keys, the query's own included."""
    return torch.tensor(
        [
            [
                s <= t and (window is None or s in range(t - window + 1, t + 1))
                for s in key_positions
            ]
            for t in query_positions
        ]
    )


def wavy_bias(distance_TS: Tensor, H: int) -> Tensor:
    """A bias that differs by head and, unlike a straight line, by where distances start."""
    waves = [h * torch.cos(0.3 * distance_TS.double() + h) for h in range(1, H + 1)]
    return torch.stack(waves, dim=-3)


def reference(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    window: int | None,
    bias=None,
    query_positions=None,
    key_positions=None,
    key_head=lambda h, H, K: h * K // H,
) -> Tensor:
    H, T, K, S = *q_BHTE.shape[1:3], *k_BKSE.shape[1:3]
    query_positions = tuple(query_positions or range(T))
    key_positions = tuple(key_positions or range(S))
    seen_TS = sees(query_positions, key_positions, window)
    distance_TS = torch.tensor(query_positions)[:, None] - torch.tensor(key_positions)
    heads = []
    for h in range(H):
        kv = key_head(h, H, K)
        scores_BTS = q_BHTE[:, h].double() @ k_BKSE[:, kv].double().mT / math.sqrt(E)
        if bias is not None:
            scores_BTS = scores_BTS + bias(distance_TS)[h]
        weights_BTS = scores_BTS.masked_fill(~seen_TS, -math.inf).softmax(dim=-1)
        heads.append(weights_BTS @ v_BKSE[:, kv].double())
    return torch.stack(heads, dim=1)


def draw(H: int, K: int, T: int, S: int | None = None, dtype=torch.float64) -> QKV:
    generator = torch.Generator().manual_seed(100 * H + 10 * K + T)
    shapes = ((2, H, T, E), (2, K, S or T, E), (2, K, S or T, E))
    q, k, v = (
        (2 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_() for shape in shapes
    )
    return q, k, v


def bias_of(H: int):
    return lambda distance_TS: wavy_bias(distance_TS, H)


def attend_to_own(qkv: QKV, window: int | None, bias=None) -> Tensor:
    places = Places.counted(0, qkv[0].shape[2])
    return attend(*qkv, queries=places, keys=None, window=window, bias=bias)


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("T", LENGTHS)
def test_attention_and_its_gradients_are_the_definition(T: int, window: int | None, biased: bool):
    for H, K in HEADS:
        qkv = draw(H, K, T)
        bias = bias_of(H) if biased else None
        y = attend_to_own(qkv, window, bias)
        expected = reference(*qkv, window, bias)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).cos()
        gradients = torch.autograd.grad((y * weights).sum(), qkv)
        expected_gradients = torch.autograd.grad((expected * weights).sum(), qkv)
        torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "rms", "largest"), [(torch.float32, 1e-6, 1e-5), (torch.bfloat16, 0.02, 0.2)]
)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("window", [None, 5, 128])
def test_smaller_types_stay_close(
    window: int | None, biased: bool, dtype, rms: float, largest: float
):
    """In bfloat16 a score of 8 is rounded to 1/32; values are about 1, so errors must be small."""
    qkv = draw(4, 2, 300, dtype=dtype)
    bias = bias_of(4) if biased else None
    y = attend_to_own(qkv, window, bias)
    assert y.dtype == dtype
    error = y.double() - reference(*qkv, window, bias)
    assert error.square().mean().sqrt() < rms
    assert error.abs().max() < largest
    half_the_window = y.double() - reference(*qkv, (window or 300) // 2, bias)
    assert half_the_window.square().mean().sqrt() > 0.05


@pytest.mark.parametrize("window", [1, 2, 5, 127, 128, 129, 256])
def test_one_key_more_or_less_would_show(window: int):
    qkv = draw(4, 2, 300)
    y = attend_to_own(qkv, window)
    for other in (window + 1, window - 1 or None):
        assert (y - reference(*qkv, other)).abs().max() > 0.05


def test_another_order_of_heads_would_show():
    qkv = draw(4, 2, 129)
    tiled = reference(*qkv, None, key_head=lambda h, H, K: h % K)
    assert (attend_to_own(qkv, None) - tiled).abs().max() > 0.05


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("window", [None, 1, 3, 40, 200])
@pytest.mark.parametrize("T", [1, 2, 9, 130])
def test_keys_of_a_cache_may_lie_in_any_order(T: int, window: int | None, biased: bool):
    S = T + min(window or 50, 50) - 1
    query_positions = range(1000, 1000 + T)
    generator = torch.Generator().manual_seed(T)
    key_positions = (1000 + T - 1 - torch.randperm(S, generator=generator)).tolist()
    qkv = draw(4, 2, T, S)
    bias = bias_of(4) if biased else None
    y = attend(
        *qkv,
        queries=Places(torch.tensor([query_positions])),
        keys=Places(torch.tensor([key_positions])),
        window=window,
        bias=bias,
    )
    expected = reference(*qkv, window, bias, list(query_positions), key_positions)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("T", LENGTHS)
def test_visible_keys_counts_the_mask(T: int, window: int | None):
    mask_TS = sees(tuple(range(T)), tuple(range(T)), window)
    assert visible_keys(T, window) == pytest.approx(mask_TS.sum().item() / T)


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest storage behind any result, gradients' included."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                size = leaf.untyped_storage().nbytes() // leaf.element_size()
                self.elements = max(self.elements, size)
        return result


def largest_tensor_in_training(T: int, window: int | None, biased: bool) -> int:
    qkv = draw(2, 1, T, dtype=torch.float32)
    with LargestTensor() as largest:
        attend_to_own(qkv, window, bias_of(2) if biased else None).sum().backward()
    return largest.elements


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_a_window_never_costs_the_square_of_the_length(biased: bool):
    """With B = 2 and H = 2, scores of T x window hold 4 * T * window elements."""
    T, window = 2048, 64
    band_keys = BAND * (1 + math.ceil((window - 1) / BAND))  # a band's queries share these keys
    largest = largest_tensor_in_training(T, window, biased)
    assert largest <= 4 * T * band_keys < 4 * T * T / 7
    assert largest_tensor_in_training(2 * T, window, biased) == 2 * largest


def test_the_measure_sees_a_square():
    assert largest_tensor_in_training(2048, None, biased=True) >= 2 * 2048 * 2048
