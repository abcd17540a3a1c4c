"""Scale, softcap and sinks against their definition, written out with explicit heads in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptlab.kernels.attention import BAND, attend
from gptlab.kernels.places import Places

E, H = 4, 4
Bias = Callable[[Tensor], Tensor]
OPTIONS: dict[str, dict[str, Any]] = {
    "scale": {"scale": 0.7},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": True},
    "all": {"scale": 0.7, "softcap": 1.5, "sinks": True},
    "scaled sinks": {"scale": 0.7, "sinks": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
either_bias = pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])


def wavy_bias(distance_TS: Tensor) -> Tensor:
    waves = [h * torch.cos(0.3 * distance_TS.double() + h) for h in range(1, H + 1)]
    return torch.stack(waves, dim=-3)


def draw(T: int, S: int | None = None, K: int = 2, dtype=torch.float64) -> tuple[Tensor, ...]:
    """Queries, keys, values and sinks."""
    generator = torch.Generator().manual_seed(10 * K + T)
    shapes = ((2, H, T, E), (2, K, S or T, E), (2, K, S or T, E), (H,))
    return tuple(
        (2 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_() for shape in shapes
    )


def reference(
    tensors: tuple[Tensor, ...],
    seen_TS: Tensor,
    bias_HTS: Tensor | None,
    scale: float = E**-0.5,
    softcap: float | None = None,
    sinks: bool = False,
    cap_after_mask: bool = False,
    cap_before_scale: bool = False,
) -> Tensor:
    q_BHTE, k_BKSE, v_BKSE, sinks_H = (x.double() for x in tensors)
    heads = []
    for h in range(H):
        kv = h * k_BKSE.shape[1] // H
        scores_BTS = q_BHTE[:, h] @ k_BKSE[:, kv].mT
        cap = (lambda z: softcap * torch.tanh(z / softcap)) if softcap else (lambda z: z)
        scores_BTS = cap(scores_BTS) * scale if cap_before_scale else scores_BTS * scale
        if not cap_after_mask and not cap_before_scale:
            scores_BTS = cap(scores_BTS)
        if bias_HTS is not None:
            scores_BTS = scores_BTS + bias_HTS[h]
        scores_BTS = scores_BTS.masked_fill(~seen_TS, -math.inf)
        if cap_after_mask:
            scores_BTS = cap(scores_BTS)
        sum_BT1 = scores_BTS.exp().sum(-1, keepdim=True) + (sinks_H[h].exp() if sinks else 0)
        heads.append(scores_BTS.exp() / sum_BT1 @ v_BKSE[:, kv])
    return torch.stack(heads, dim=1)


def distances(T: int) -> Tensor:
    return torch.arange(T)[:, None] - torch.arange(T)


def visible(T: int, window: int | None) -> Tensor:
    return (distances(T) >= 0) & (distances(T) < (window or T))


def arguments(tensors: tuple[Tensor, ...], sinks: bool = False, **options: Any) -> dict[str, Any]:
    """What `attend` takes; the sinks themselves, for whether there are any."""
    return options | {"sinks_H": tensors[3] if sinks else None}


def attend_to_own(
    tensors: tuple[Tensor, ...], window: int | None, bias: Bias | None, **options: Any
) -> Tensor:
    return attend(
        *tensors[:3],
        queries=Places.counted(0, tensors[0].shape[2]),
        keys=None,
        window=window,
        bias=bias,
        **arguments(tensors, **options),
    )


@every_option
@either_bias
@pytest.mark.parametrize("window", [None, 1, 5, 128, 129])
@pytest.mark.parametrize("T", [1, 2, 129, 300])
def test_attention_and_its_gradients_are_the_definition(
    T: int, window: int | None, biased: bool, options: dict[str, Any]
):
    for K in (1, 2, 4):
        tensors = draw(T, K=K)
        y = attend_to_own(tensors, window, wavy_bias if biased else None, **options)
        bias_HTS = wavy_bias(distances(T)) if biased else None
        expected = reference(tensors, visible(T, window), bias_HTS, **options)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        used = tensors if options.get("sinks") else tensors[:3]
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).cos()
        gradients = torch.autograd.grad((y * weights).sum(), used)
        expected_gradients = torch.autograd.grad((expected * weights).sum(), used)
        torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=1e-11)


MISTAKES: dict[str, dict[str, Any]] = {
    "the default scale": {"scale": E**-0.5},
    "no cap": {"softcap": None},
    "a cap over the mask": {"cap_after_mask": True},
    "a cap before the scale": {"cap_before_scale": True},
    "no sinks": {"sinks": False},
}


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_would_show(window: int | None, mistake: dict[str, Any]):
    tensors = draw(40)
    y = attend_to_own(tensors, window, None, **OPTIONS["all"])
    expected = reference(tensors, visible(40, window), None, **(OPTIONS["all"] | mistake))
    assert (y - expected).abs().max() > 0.05


@every_option
@either_bias
@pytest.mark.parametrize("T", [1, 9])
def test_keys_of_a_cache_may_lie_in_any_order(T: int, biased: bool, options: dict[str, Any]):
    S = T + 39
    query_T = torch.arange(1000, 1000 + T)
    key_S = 1000 + T - 1 - torch.randperm(S, generator=torch.Generator().manual_seed(T))
    tensors = draw(T, S)
    y = attend(
        *tensors[:3],
        queries=Places(query_T[None]),
        keys=Places(key_S[None]),
        window=40,
        bias=wavy_bias if biased else None,
        **arguments(tensors, **options),
    )
    distance_TS = query_T[:, None] - key_S
    seen_TS = (distance_TS >= 0) & (distance_TS < 40)
    bias_HTS = wavy_bias(distance_TS) if biased else None
    expected = reference(tensors, seen_TS, bias_HTS, **options)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


@every_option
@either_bias
@pytest.mark.parametrize("window", [None, 5, 128])
@pytest.mark.parametrize(("dtype", "rms"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_smaller_types_stay_close(
    dtype, rms: float, window: int | None, biased: bool, options: dict[str, Any]
):
    tensors = draw(300, dtype=dtype)
    y = attend_to_own(tensors, window, wavy_bias if biased else None, **options)
    assert y.dtype == dtype
    bias_HTS = wavy_bias(distances(300)) if biased else None
    error = y.double() - reference(tensors, visible(300, window), bias_HTS, **options)
    assert error.square().mean().sqrt() < rms


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


def largest_tensor_in_training(T: int, window: int | None, options: dict[str, Any]) -> int:
    tensors = draw(T, dtype=torch.float32)
    with LargestTensor() as largest:
        attend_to_own(tensors, window, None, **options).sum().backward()
    return largest.elements


@every_option
def test_a_window_never_costs_the_square_of_the_length(options: dict[str, Any]):
    T, window = 1024, 64
    band_keys = BAND * (1 + math.ceil((window - 1) / BAND)) + 1  # and a sink
    largest = largest_tensor_in_training(T, window, options)
    assert largest <= 2 * H * T * band_keys < 2 * H * T * T / 3
    assert largest_tensor_in_training(2 * T, window, options) == 2 * largest


def test_only_a_softcap_costs_the_square_of_the_length_without_a_window():
    T = 512
    for name, options in OPTIONS.items():
        largest = largest_tensor_in_training(T, None, options)
        assert (largest >= 2 * H * T * T) == ("softcap" in options), name
        assert largest >= 2 * H * T * T or largest < 2 * H * T * 32


@pytest.mark.parametrize("width", [E - 1, 2 * E])
@pytest.mark.parametrize("window", [None, 5])
@every_option
def test_values_may_be_of_another_width(options: dict[str, Any], window: int | None, width: int):
    q, k, v, sinks_H = draw(40)
    v_BKSF = torch.cat([v, v.flip(2)], dim=-1)[..., :width]
    tensors = (q, k, v_BKSF, sinks_H)
    y = attend_to_own(tensors, window, None, **options)
    assert y.shape == (2, H, 40, width)
    expected = reference(tensors, visible(40, window), None, **options)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def test_values_of_another_width_cost_no_square_of_the_length():
    T = 512
    q, k, v, _ = draw(T, dtype=torch.float32)
    with LargestTensor() as largest:
        attend_to_own((q, k, torch.cat([v, v], dim=-1)), None, None).sum().backward()
    assert largest.elements <= 2 * H * T * 4 * E


@pytest.mark.parametrize("K", [1, 2, H])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", [[[4]], [[4], [8]]], ids=["even", "uneven"])
@either_bias
@torch.no_grad()
def test_a_single_query_reads_what_torchs_kernels_read(K, window, positions, biased):
    """In float32 on a CPU it goes another way than in float64."""
    q_BH1E, k_BKSE, v_BKSE, _ = draw(1, S=10, K=K)
    bias = (lambda distance: wavy_bias(distance).to(q_BH1E.dtype)) if biased else None

    def read(dtype: torch.dtype) -> Tensor:
        tensors = (x.to(dtype) for x in (q_BH1E, k_BKSE, v_BKSE))
        queries, keys = Places(torch.tensor(positions)), Places.counted(0, 10)
        return attend(*tensors, queries=queries, keys=keys, window=window, bias=bias, scale=0.7)

    exact = read(torch.float64)
    torch.testing.assert_close(read(torch.float32).double(), exact, rtol=1e-5, atol=1e-5)
    assert exact.std() > 0.1
