import pytest
import torch
from torch.overrides import TorchFunctionMode

from gptlab.kernels import weighted_rows as kernel
from gptlab.kernels.softmax import Scoring, softmax_attention
from gptlab.kernels.weighted_rows import are_many, weighted_rows


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (12, 300, 64)])
@torch.no_grad()
def test_it_is_the_sum_of_rows_times_weights(shape):
    rows_RSE, weights_RS = torch.randn(shape), torch.randn(shape[:2])
    weights_RS[:, shape[1] // 2 + 1 :] = 0
    expected = torch.einsum("rs,rse->re", weights_RS.double(), rows_RSE.double()).float()
    torch.testing.assert_close(weighted_rows(weights_RS, rows_RSE), expected, rtol=1e-5, atol=1e-5)
    out = torch.empty_like(expected)
    assert weighted_rows(weights_RS, rows_RSE, out=out) is out
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_kv_heads", [3, 1])
@pytest.mark.parametrize("turned", [False, True])
@torch.no_grad()
def test_a_single_query_attends_as_it_should(monkeypatch, n_kv_heads, turned):
    monkeypatch.setattr(kernel, "MANY", 0)
    q, k, v = torch.randn(2, 3, 1, 8), *torch.randn(2, 2, n_kv_heads, 20, 8)
    v = v.mT.contiguous().mT if turned else v[..., :6].contiguous()
    mask = torch.rand(2, 1, 1, 20) < 0.7
    mask[..., 0] = True
    y = softmax_attention(q, k, v, mask, Scoring(0.3, None, None, 0.0))
    expected = ((q @ k.mT * 0.3).masked_fill(~mask, -torch.inf)).softmax(-1) @ v
    torch.testing.assert_close(y, expected)


def test_it_is_for_many_numbers_in_order_without_a_gradient():
    rows_RSE = torch.randn(2, kernel.MANY // 8, 4)
    assert not are_many(rows_RSE)
    with torch.no_grad():
        assert are_many(rows_RSE) == torch.backends.cpu.get_cpu_capability().startswith("AVX")
        assert not are_many(rows_RSE[:1])
        assert not are_many(rows_RSE.mT)
        assert not are_many(rows_RSE.double())


@torch.no_grad()
def test_who_notes_operations_sees_one():
    seen = []

    class Noting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **kwargs or {})

    with Noting():
        weighted_rows(torch.randn(2, 3), torch.randn(2, 3, 4))
    assert seen.count(weighted_rows) == 1
