import math

import pytest
import torch

from gptlab.kernels.dropout import WORTH_IT, dropout


def drop(x: torch.Tensor, p: float, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return dropout(x, p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_so_many_are_dropped_and_the_mean_stays(dtype: torch.dtype, p: float):
    n = 1_000_000
    y = drop(torch.ones(n, dtype=dtype), p)
    share = (y == 0).double().mean().item()
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n) + 2**-15
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_passes_where_the_number_did(dtype: torch.dtype):
    x = torch.randn(64, 1024, dtype=dtype, requires_grad=True)
    y = drop(x, 0.3)
    y.backward(torch.full_like(y, 2.0))
    assert x.grad is not None
    factor = y[y != 0][0] / x.detach()[y != 0][0]
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, 2 * factor).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neighbours_are_independent(dtype: torch.dtype):
    """Elements that share a word, or lie in words drawn one after the other, know nothing."""
    kept = (drop(torch.ones(1_000_000, dtype=dtype), 0.5) != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8, 64):
        correlation = 4 * (kept[:-distance] * kept[distance:]).mean().item()
        assert abs(correlation) < 5e-3, distance


def test_it_follows_from_torch_s_generator():
    x = torch.ones(WORTH_IT)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    state = torch.get_rng_state()
    third = dropout(x, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.5), third)
    assert torch.equal(drop(x, 0.5, seed=3), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("n", [1, 7, WORTH_IT - 1, WORTH_IT + 1, WORTH_IT + 4])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_every_size_and_every_fraction(n: int, p: float):
    y = drop(torch.ones(n, dtype=torch.bfloat16), p)
    assert y.shape == (n,)
    assert set(y.unique().tolist()) <= {0.0: {1.0}, 0.5: {0.0, 2.0}, 1.0: {0.0}}[p]


def test_a_layout_that_is_not_contiguous():
    x = torch.randn(256, 128).t()
    y = drop(x, 0.25)
    torch.testing.assert_close(y[y != 0], (x / 0.75)[y != 0], rtol=1e-4, atol=0)


def test_views_that_begin_within_a_word_and_fractions_next_to_one():
    x = torch.ones(WORTH_IT + 5, dtype=torch.bfloat16)[1:]
    assert set(drop(x, 0.5).unique().tolist()) == {0.0, 2.0}
    assert drop(torch.ones(WORTH_IT, dtype=torch.bfloat16), 0.999_999).isfinite().all()
