from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gptlab.kernels.gelu import FEW, exact_gelu


@pytest.mark.parametrize("n", [1, FEW, FEW + 1])
def test_it_is_the_formula_and_so_is_its_gradient(n):
    x = torch.linspace(-4, 4, n, requires_grad=True)
    y = x * (1 + torch.erf(x / 2**0.5)) / 2
    torch.testing.assert_close(exact_gelu(x), y)
    slope = torch.autograd.grad(exact_gelu(x).sum(), x)[0]
    torch.testing.assert_close(slope, torch.autograd.grad(y.sum(), x)[0])


def test_it_writes_where_it_is_told_to():
    x, out = torch.randn(5), torch.zeros(5)
    assert exact_gelu(x, out=out) is out
    assert out.equal(exact_gelu(x))


@pytest.mark.parametrize("was", [True, False])
def test_onednn_is_as_it_was(was):
    before = torch._C._get_mkldnn_enabled()
    try:
        torch._C._set_mkldnn_enabled(was)
        exact_gelu(torch.randn(5))
        assert torch._C._get_mkldnn_enabled() == was
    finally:
        torch._C._set_mkldnn_enabled(before)


def test_who_notes_operations_sees_one():
    seen = []

    class Noting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **kwargs or {})

    x = torch.randn(5)
    with Noting():
        exact_gelu(x)
    assert seen.count(exact_gelu) == 1
    assert len(seen) == 1


def test_another_thread_leaves_onednn_alone(monkeypatch):
    """It is switched for the whole process, which may be computing something else meanwhile."""
    monkeypatch.setattr(torch._C, "_set_mkldnn_enabled", lambda _: pytest.fail("switched"))
    x, out = torch.linspace(-4, 4, 9), torch.zeros(9)
    with ThreadPoolExecutor() as pool:
        y = pool.submit(exact_gelu, x).result()
        assert pool.submit(exact_gelu, x, out=out).result() is out
    torch.testing.assert_close(y, x * (1 + torch.erf(x / 2**0.5)) / 2)
    assert out.equal(y)
    with pytest.raises(pytest.fail.Exception, match="switched"):
        exact_gelu(x)
