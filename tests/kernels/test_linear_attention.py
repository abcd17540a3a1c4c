"""Linear attention against its equation, all pairs of tokens at once, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptlab.kernels.linear_attention import (
    linear_attention,
    linear_attention_by_token,
    linear_attention_in_chunks,
)
from gptlab.kernels.recurrence import CHUNK

B, H, K, V = 2, 3, 5, 7
FORMS = [linear_attention_by_token, linear_attention_in_chunks]
Form = Callable[..., tuple[Tensor, Tensor]]


def inputs(T: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(T)
    shapes = [(B, H, T, K), (B, H, T, K), (B, H, T, V), (B, H, K, V)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def segments(T: int) -> Tensor:
    """Texts of all lengths: one begins at once, one is a single token, one begins a chunk."""
    starts_BT = torch.zeros(2, T, dtype=torch.long)
    starts_BT[0, [0, 5, 6, T - 1]] = 1
    starts_BT[1, [T // 2, min(CHUNK, T - 1)]] = 1
    return starts_BT.cumsum(1)


def expected(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, numbers_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """y_t = sum over s <= t of one text of (q_t k_s) v_s, and the state where it is in view."""
    same_BTT = numbers_BT[:, :, None] == numbers_BT[:, None, :]
    scores_BHTT = torch.einsum("bhtk,bhsk->bhts", q, k) * same_BTT.tril()[:, None]
    goes_on_BT = (numbers_BT == 0).to(q.dtype)
    read_BHTV = torch.einsum("bhtk,bhkv,bt->bhtv", q, state, goes_on_BT)
    in_last_BT = (numbers_BT == numbers_BT[:, -1:]).to(q.dtype)
    written_BHKV = torch.einsum("bhtk,bhtv,bt->bhkv", k, v, in_last_BT)
    left_BHKV = state * goes_on_BT[:, -1, None, None, None]
    return torch.einsum("bhts,bhsv->bhtv", scores_BHTT, v) + read_BHTV, left_BHKV + written_BHKV


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("T", [8, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 9])
@pytest.mark.parametrize("packed", [False, True], ids=["one text", "packed"])
def test_it_is_its_equation_with_every_gradient(form: Form, T: int, packed: bool):
    numbers_BT = segments(T) if packed else torch.zeros(1, T, dtype=torch.long)
    ours, theirs = with_gradients(form, T, numbers_BT), with_gradients(expected, T, numbers_BT)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def with_gradients(form: Form, T: int, numbers_BT: Tensor) -> list[Tensor | None]:
    given = inputs(T)
    outputs = form(*given, numbers_BT)
    weighted = [x * torch.linspace(-1, 1, x.numel()).view_as(x) for x in outputs]
    torch.cat([x.flatten() for x in weighted]).sum().backward()
    return [*outputs, *(x.grad for x in given)]


@pytest.mark.parametrize("form", FORMS)
def test_no_numbers_mean_one_text(form: Form):
    given = inputs(CHUNK + 3)
    one = torch.zeros(1, CHUNK + 3, dtype=torch.long)
    for ours, theirs in zip(form(*given, None), form(*given, one), strict=True):
        assert torch.equal(ours, theirs)


def test_sums_are_kept_in_float32_under_autocast():
    given = [x.detach().bfloat16() for x in inputs(200)[:3]]
    expected_BHTV, expected_BHKV = linear_attention(*(x.float() for x in given))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_BHTV, state_BHKV = linear_attention(*given)
    assert y_BHTV.dtype == state_BHKV.dtype == torch.float32
    torch.testing.assert_close(y_BHTV, expected_BHTV)
    torch.testing.assert_close(state_BHKV, expected_BHKV)
