"""Norm and rotation in one, against the plain functions one after the other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import rms_norm

from gptlab.kernels.normed_rotation import norm_and_rotate
from gptlab.kernels.rotation import halves, neighbours, rotate_half, rotate_interleaved

B, T, E, EPS = 2, 5, 6, 0.1  # an eps that is large enough to matter
Angles = tuple[Tensor, Tensor]
LAYOUTS = {"half": (halves, rotate_half), "interleaved": (neighbours, rotate_interleaved)}


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def angles(layout: str, rows: int) -> Angles:
    """Of rows that differ, or of one for all, and longer than 1, as some scalings make them."""
    angle = draw(rows, T, 1, E // 2).detach()
    both = [angle, angle] if layout == "half" else [angle[..., None]] * 2
    spread = torch.cat(both, dim=-1).flatten(3)
    return 1.3 * spread.cos(), 1.3 * spread.sin()


def at_once(layout: str, rows: int, x: list[Tensor], gains: list[Tensor]) -> list[Tensor]:
    X, members = sum(each.shape[2] for each in x), LAYOUTS[layout][0]
    dtype = torch.promote_types(x[0].dtype, torch.float32)
    cos, sin = (each.repeat(1, 1, X, 1).to(dtype) for each in angles(layout, rows))
    return list(norm_and_rotate(x, gains, EPS, cos, sin, members))


def plainly(layout: str, rows: int, x: list[Tensor], gains: list[Tensor]) -> list[Tensor]:
    rotate: Callable[..., Tensor] = LAYOUTS[layout][1]
    wide = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in x]
    normed = [rms_norm(each, (E,), gain, EPS) for each, gain in zip(wide, gains, strict=True)]
    tables = [each.to(normed[0].dtype) for each in angles(layout, rows)]
    return [rotate(each, *tables).transpose(1, 2).to(x[0].dtype) for each in normed]


@pytest.mark.parametrize("rows", [1, B])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_of_queries_and_keys(layout: str, rows: int):
    q, k, q_gain, k_gain = draw(B, T, 4, E), draw(B, T, 2, E), draw(E), draw(E, seed=1)
    given = [q, k], [q_gain, k_gain]
    for y, plain in zip(at_once(layout, rows, *given), plainly(layout, rows, *given), strict=True):
        assert y.is_contiguous()
        torch.testing.assert_close(y, plain, rtol=0, atol=1e-12)
    assert gradcheck(
        lambda q, k, q_gain, k_gain: tuple(at_once(layout, rows, [q, k], [q_gain, k_gain])),
        (q, k, q_gain, k_gain),
    )


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_as_precise_as_one_after_the_other_in_float32(
    layout: str, dtype: torch.dtype, within: float
):
    def gradients(function: Callable[..., list[Tensor]]) -> list[Tensor]:
        x = [draw(B, T, 4, E, dtype=dtype), draw(B, T, 1, E, dtype=dtype)]
        gains = [draw(E, dtype=torch.float32), draw(E, dtype=torch.float32, seed=1)]
        y = function(layout, 1, x, gains)
        assert {each.dtype for each in y} == {dtype}
        torch.cat([each.flatten() for each in y]).square().sum().backward()
        found = [each.grad for each in x + gains]
        assert all(each is not None for each in found)
        return [*y, *(each for each in found if each is not None)]

    for ours, plain in zip(gradients(at_once), gradients(plainly), strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=within, atol=within * plain.abs().max().item())
