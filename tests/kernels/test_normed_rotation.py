"""Norm and rotation in one, against the plain functions one after the other."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import rms_norm

from gptlab.kernels.normed_rotation import norm_and_rotate
from gptlab.kernels.rotation import rotate_interleaved

B, T, E, EPS = 2, 5, 6, 0.1  # an eps that is large enough to matter


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def turns(rows: int) -> Tensor:
    """Of rows that differ, or of one for all, and longer than 1, as some scalings make them."""
    return torch.polar(torch.tensor(1.3, dtype=torch.float64), draw(rows, T, 1, E // 2).detach())


def at_once(rows: int, x: list[Tensor], gains: list[Tensor]) -> list[Tensor]:
    X = sum(each.shape[2] for each in x) if rows == 1 else 1
    is_double = x[0].dtype == torch.float64
    turn = turns(rows).repeat(1, 1, X, 1).to(torch.complex128 if is_double else torch.complex64)
    return list(norm_and_rotate(x, gains, EPS, turn))


def plainly(rows: int, x: list[Tensor], gains: list[Tensor]) -> list[Tensor]:
    wide = [each.to(torch.promote_types(each.dtype, torch.float32)) for each in x]
    wide = [rms_norm(each, (E,), gain, EPS) for each, gain in zip(wide, gains, strict=True)]
    turn = turns(rows)
    tables = [part.repeat_interleave(2, -1).to(wide[0].dtype) for part in (turn.real, turn.imag)]
    return [rotate_interleaved(each, *tables).transpose(1, 2).to(x[0].dtype) for each in wide]


@pytest.mark.parametrize("rows", [1, B])
def test_the_gradient_of_queries_and_keys(rows: int):
    x, gains = [draw(B, T, 4, E), draw(B, T, 2, E)], [draw(E), draw(E, seed=1)]
    for y, plain in zip(at_once(rows, x, gains), plainly(rows, x, gains), strict=True):
        assert y.is_contiguous()
        torch.testing.assert_close(y, plain, rtol=0, atol=1e-12)
    assert gradcheck(lambda q, k, *gains: tuple(at_once(rows, [q, k], [*gains])), (*x, *gains))


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_it_is_as_precise_as_one_after_the_other_in_float32(dtype: torch.dtype, within: float):
    def gradients(function: Callable[..., list[Tensor]]) -> list[Tensor]:
        x = [draw(B, T, 4, E, dtype=dtype), draw(B, T, 1, E, dtype=dtype)]
        gains = [draw(E, dtype=torch.float32, seed=i) for i in range(2)]
        y = function(1, x, gains)
        assert {each.dtype for each in y} == {dtype}
        torch.cat([each.flatten() for each in y]).square().sum().backward()
        found = [each.grad for each in x + gains]
        assert all(each is not None for each in found)
        return [*y, *(each for each in found if each is not None)]

    for ours, plain in zip(gradients(at_once), gradients(plainly), strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=within, atol=within * plain.abs().max().item())


def test_what_it_is_given_stays_as_it_was():
    x = [draw(B, T, 4, E, dtype=torch.float32), draw(B, T, 1, E, dtype=torch.float32)]
    before = [each.detach().clone() for each in x]
    y = at_once(1, x, [draw(E, dtype=torch.float32)] * 2)
    dy = [torch.ones_like(each) for each in y]
    torch.autograd.backward(y, dy)
    assert all(torch.equal(one, other) for one, other in zip(x, before, strict=True))
    assert all((each == 1).all() for each in dy)
