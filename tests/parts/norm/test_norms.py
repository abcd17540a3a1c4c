import pytest
import torch
from torch import Tensor, nn

from gptlab.parts.norm import Norm
from gptlab.parts.norm.layer_norm import LayerNorm
from gptlab.parts.norm.rms_norm import RMSNorm


def build(norm: Norm, x: Tensor) -> nn.Module:
    """Build with a gain and a bias that are not the identity."""
    built = norm.build(x.shape[-1]).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += torch.linspace(-0.5, 0.5, x.shape[-1], dtype=torch.float64).sin()
    return built


def values(scale: float) -> Tensor:
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return scale * (x + 1)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_rms_norm_is_its_formula(eps: float, scale: float):
    x = values(scale)
    norm = build(RMSNorm(eps=eps), x)
    expected = norm.get_parameter("weight") * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_its_formula(eps: float, scale: float):
    x = values(scale)
    norm = build(LayerNorm(eps=eps), x)
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    expected = norm.get_parameter("weight") * scaled + norm.get_parameter("bias")
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-12)


def test_layer_norm_may_go_without_bias():
    assert [name for name, _ in LayerNorm(bias=False).build(8).named_parameters()] == ["weight"]
