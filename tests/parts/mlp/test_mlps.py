import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.context import Context

Tiny = Callable[..., Model]
GATED = ["swiglu", "geglu", "clamped_swiglu"]


def build(tiny: Tiny, mlp: str | dict, d_model: int = 48) -> nn.Module:
    attention = {"type": "grouped_query", "n_heads": 4}
    gpt = tiny(mlp=mlp, d_model=d_model, attention=attention, n_layers=1).build()
    return gpt.blocks[0].get_submodule("mlp")


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def clamped_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = torch.where(gate > 0.7, 0.7, gate), torch.where(up > 0.7, 0.7, up)
    return gate / (1 + torch.exp(-1.5 * gate)) * (1 + torch.where(up < -0.7, -0.7, up))


FORMULAS: dict[str, tuple[dict, Callable[..., Tensor]]] = {
    "tanh gelu": ({"type": "gelu"}, tanh_gelu),
    "exact gelu": ({"type": "gelu", "approximate": "none"}, exact_gelu),
    "relu squared": ({"type": "relu_squared"}, lambda x: x.clamp(min=0) ** 2),
    "swiglu": ({"type": "swiglu"}, lambda gate, up: gate / (1 + torch.exp(-gate)) * up),
    "geglu": ({"type": "geglu"}, lambda gate, up: tanh_gelu(gate) * up),
    "clamped swiglu": ({"type": "clamped_swiglu", "limit": 0.7, "alpha": 1.5}, clamped_swiglu),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
@torch.no_grad()
def test_an_mlp_is_its_formula(tiny: Tiny, name: str, bias: bool):
    settings, activation = FORMULAS[name]
    mlp = build(tiny, settings | {"bias": bias}).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in mlp.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    x_BTD = torch.randn(2, 5, 48, generator=generator, dtype=torch.float64)

    def layer(name: str, x: Tensor) -> Tensor:
        y = x @ mlp.get_parameter(f"{name}.weight").T
        return y + mlp.get_parameter(f"{name}.bias") if bias else y

    inner = ["gate", "up"] if settings["type"] in GATED else ["up"]
    expected = layer("down", activation(*(layer(each, x_BTD) for each in inner)))
    y_BTD = mlp(x_BTD, Context(Places.counted(0, 5)))
    torch.testing.assert_close(y_BTD, expected, rtol=0, atol=1e-10)


def parameters(mlp: nn.Module) -> int:
    return sum(parameter.numel() for parameter in mlp.parameters())


@pytest.mark.parametrize("d_model", [128, 192, 256, 320, 384, 512, 640, 768, 1024])
@pytest.mark.parametrize("name", GATED)
def test_a_gated_mlp_costs_what_a_plain_one_does(tiny: Tiny, name: str, d_model: int):
    with torch.device("meta"):
        gated = build(tiny, name, d_model)
        plain = build(tiny, "gelu", d_model)
    assert parameters(gated) == pytest.approx(parameters(plain), rel=0.01)
    assert gated.get_parameter("up.weight").shape[0] % 8 == 0


def test_the_inner_width_is_a_setting(tiny: Tiny):
    for settings, _ in FORMULAS.values():
        mlp = build(tiny, settings | {"d_ff": 20})
        assert mlp.get_parameter("up.weight").shape == (20, 48)
    wide = build(tiny, {"type": "swiglu", "multiple_of": 100})
    assert wide.get_parameter("up.weight").shape == (200, 48)
