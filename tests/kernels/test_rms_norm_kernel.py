"""The norm whose gradient is written out, against numbers and against torch's."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import rms_norm

from gptlab.kernels.rms_norm import gain_then_round, round_then_gain

EPS = 0.1  # large enough to matter


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(7, 6), (2, 5, 3, 6)])
def test_the_gradient_of_the_norm(shape: tuple[int, ...], offset: float):
    x, gain = draw(*shape), draw(6)
    assert gradcheck(lambda x, gain: gain_then_round(x, gain, EPS, offset), (x, gain))
    assert gradcheck(lambda x, gain: round_then_gain(x, gain, EPS, offset), (x, gain))
    assert gradcheck(lambda x: gain_then_round(x, None, EPS, 0.0), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_torchs(dtype: torch.dtype):
    x, gain, dy = draw(4, 9, 6, dtype=dtype), draw(6, dtype=torch.float32), draw(4, 9, 6)
    plain_x, plain_gain = (each.detach().requires_grad_() for each in (x, gain))
    y = gain_then_round(x, gain, EPS, 0.0)
    plain = rms_norm(plain_x.float(), (6,), plain_gain, EPS).to(dtype)
    torch.testing.assert_close(y, plain)
    with torch.no_grad():
        torch.testing.assert_close(gain_then_round(x, gain, EPS, 0.0), y)
    y.backward(dy.to(dtype))
    plain.backward(dy.to(dtype))
    torch.testing.assert_close(x.grad, plain_x.grad)
    torch.testing.assert_close(gain.grad, plain_gain.grad)
