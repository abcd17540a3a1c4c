import pytest
import torch
from torch.overrides import TorchFunctionMode

from gptlab.kernels import weighted_rows as kernel
from gptlab.kernels.softmax import Scoring, softmax_attention
from gptlab.kernels.weighted_rows import weighted_rows


@pytest.fixture(params=[0, 2**30], ids=["bags", "bmm"])
def many(request, monkeypatch):
    monkeypatch.setattr(kernel, "MANY", request.param)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (12, 300, 64)])
@torch.no_grad()
def test_it_is_the_sum_of_rows_times_weights(shape):
    rows_RSE, weights_RS = torch.randn(shape), torch.randn(shape[:2])
    weights_RS[:, shape[1] // 2 + 1 :] = 0
    expected = torch.einsum("rs,rse->re", weights_RS.double(), rows_RSE.double()).float()
    torch.testing.assert_close(weighted_rows(weights_RS, rows_RSE), expected, rtol=1e-5, atol=1e-5)
    out = torch.empty_like(expected)
    weighted_rows(weights_RS, rows_RSE, out=out)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
@torch.no_grad()
def test_other_numbers_and_other_layouts(kind):
    rows_RES, weights_RS = torch.randn(3, 4, 6), torch.randn(3, 6)
    expected = (weights_RS[:, None] * rows_RES).sum(-1)
    torch.testing.assert_close(weighted_rows(weights_RS, rows_RES.mT), expected)
    given = weights_RS.to(kind), rows_RES.mT.contiguous().to(kind)
    torch.testing.assert_close(weighted_rows(*given).float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.usefixtures("many")
def test_it_has_a_gradient():
    rows_RSE, weights_RS = torch.randn(3, 4, 5), torch.randn(3, 4, requires_grad=True)
    slope = torch.autograd.grad(weighted_rows(weights_RS, rows_RSE).sum(), weights_RS)[0]
    torch.testing.assert_close(slope, rows_RSE.sum(-1))


@pytest.mark.usefixtures("many")
@torch.no_grad()
def test_a_single_query_attends_as_torch_does():
    q, k, v = torch.randn(2, 3, 1, 8), torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20, 6)
    mask = torch.rand(2, 1, 1, 20) < 0.7
    y = softmax_attention(q, k, v, mask, Scoring(0.3, None, None, 0.0))
    expected = ((q @ k.mT * 0.3).masked_fill(~mask, -torch.inf)).softmax(-1) @ v
    torch.testing.assert_close(y, expected)


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
