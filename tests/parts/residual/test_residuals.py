"""The wiring of each residual, with branches and norms simple enough to follow by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from by_hand import first, norm, second
from torch import Tensor, nn

from gptlab.config import variant_names
from gptlab.model.gpt import GPT, Model
from gptlab.parts.residual import Residual

Tiny = Callable[..., Model]


def pre_norm(x: Tensor, gain: list[float]) -> Tensor:
    x = x + first(norm(x, gain[0]))
    return x + second(norm(x, gain[1]))


def post_norm(x: Tensor, gain: list[float]) -> Tensor:
    x = norm(x + first(x), gain[0])
    return norm(x + second(x), gain[1])


def sandwich(x: Tensor, gain: list[float]) -> Tensor:
    x = x + norm(first(norm(x, gain[0])), gain[2])
    return x + norm(second(norm(x, gain[1])), gain[3])


def parallel(x: Tensor, gain: list[float]) -> Tensor:
    return x + first(norm(x, gain[0])) + second(norm(x, gain[0]))


def parallel_with_own_norms(x: Tensor, gain: list[float]) -> Tensor:
    return x + first(norm(x, gain[0])) + second(norm(x, gain[1]))


def branch_norm(x: Tensor, gain: list[float]) -> Tensor:
    x = x + norm(first(x), gain[0])
    return x + norm(second(x), gain[1])


OWN_NORMS = {"type": "parallel", "own_norms": True}


@pytest.mark.parametrize(
    ("residual", "formula"),
    [
        ("pre_norm", pre_norm),
        ("post_norm", post_norm),
        ("sandwich", sandwich),
        ("branch_norm", branch_norm),
        ("parallel", parallel),
        (OWN_NORMS, parallel_with_own_norms),
    ],
)
@torch.no_grad()
def test_a_residual_is_its_formula(
    tiny: Tiny, residual: Any, formula: Callable[[Tensor, list[float]], Tensor]
):
    wiring = block_wiring(tiny(residual=residual, norm="rms_norm").build())
    gains = [0.5, 1.5, 2.0, 0.7]
    for parameter, gain in zip(wiring.parameters(), gains, strict=False):
        parameter.fill_(gain)
    x_BTD = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(wiring(x_BTD, first, second), formula(x_BTD, gains))


def block_wiring(gpt: GPT) -> nn.Module:
    return gpt.blocks[0].get_submodule("residual")


@pytest.mark.parametrize(
    ("residual", "norms_in_a_block", "norms_at_the_end"),
    [
        ("pre_norm", 2, 1),
        ("post_norm", 2, 0),
        ("sandwich", 4, 1),
        ("branch_norm", 2, 1),
        ("parallel", 1, 1),
        (OWN_NORMS, 2, 1),
    ],
)
def test_a_residual_owns_the_norms(
    tiny: Tiny, residual: Any, norms_in_a_block: int, norms_at_the_end: int
):
    gpt = tiny(residual=residual).build()
    assert count_norms(block_wiring(gpt)) == norms_in_a_block
    assert count_norms(gpt.ends) == norms_at_the_end
    assert count_norms(gpt) == 2 * norms_in_a_block + norms_at_the_end


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(inner, nn.LayerNorm) for inner in module.modules())


@pytest.mark.parametrize("residual", [*variant_names(Residual), OWN_NORMS])
def test_a_drawing_shows_every_branch_once(tiny: Tiny, residual: Any):
    drawing = "\n".join(tiny(residual=residual).residual.draw("NORM", ["attention", "mlp"]))
    assert drawing.count("attention") == drawing.count("mlp") == 1


@pytest.mark.parametrize(
    "residual",
    [*(name for name in variant_names(Residual) if name != "hyper_connections"), OWN_NORMS],
)
def test_a_drawing_shows_every_norm(tiny: Tiny, residual: Any):
    model = tiny(residual=residual)
    drawing = "\n".join(model.residual.draw("NORM", ["attention", "mlp"]))
    assert drawing.count("NORM") == count_norms(block_wiring(model.build()))
