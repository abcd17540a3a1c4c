"""The convolution against torch's own grouped one, in float64, and where it starts."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention.convolution import ConvolutionMixer
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
D, T = 48, 20


def build(tiny: Tiny, width: int) -> ConvolutionMixer:
    attention = {"type": "convolution", "width": width}
    mixer = tiny(attention=attention, positions="none").build().mixers()[0].double().eval()
    assert isinstance(mixer, ConvolutionMixer)
    return mixer


def stream() -> Tensor:
    return torch.randn(2, T, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_torch(weight_WD: Tensor, x_BTD: Tensor) -> Tensor:
    W = weight_WD.shape[0]
    padded_BDT = pad(x_BTD.transpose(1, 2), (W - 1, 0))
    return silu(conv1d(padded_BDT, weight_WD.T[:, None], groups=D)).transpose(1, 2)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_it_is_torchs_grouped_convolution_of_the_last_few_tokens(tiny: Tiny, width: int):
    mixer, x_BTD = build(tiny, width), stream()
    y_BTD = mixer(x_BTD, Context(Places.counted(0, T, x_BTD.device)))
    weight_WD = mixer.convolution.weight
    assert weight_WD.shape == (width, D)
    torch.testing.assert_close(y_BTD, by_torch(weight_WD, x_BTD))
    if width > 1:  # read from the other end, the weights are those of other tokens
        assert (y_BTD - by_torch(weight_WD.flip(0), x_BTD)).abs().max() > 0.1


def test_it_costs_a_product_and_a_sum_per_channel_and_token_seen(tiny: Tiny):
    mixer = build(tiny, 4)
    assert mixer.score_flops(T) == mixer.score_flops_of_all(T) == 2 * 4 * D
    assert sum(p.numel() for p in mixer.parameters()) == 4 * D
