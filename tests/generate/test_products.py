"""Products of recorded steps are those of torch's `linear`, in fewer calls."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from gptlab.generate import products, recording
from gptlab.generate.operations import Call
from gptlab.generate.recording import record
from gptlab.kernels.gelu import exact_gelu
from gptlab.parts.layers import Linear, side_by_side

D, F = 6, 4


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The calls that the last recording consists of."""
    last, lay_out = [], recording.lay_out

    def watched(*args):
        last[:] = lay_out(*args)
        return last

    monkeypatch.setattr(recording, "lay_out", watched)
    return last


def check(step: Callable[[], Tensor], constants: list[Tensor], *inputs: Tensor) -> None:
    """Play a step on other inputs than it was recorded on."""
    with torch.inference_mode():
        play = record(step, constants)
        for x in inputs:
            x.copy_(torch.randn(x.shape))
        torch.testing.assert_close(play(), step(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, D), (3, 1, D), (2, 5, D)])
@pytest.mark.parametrize("bias_F", [None, torch.randn(F)])
@pytest.mark.parametrize("is_constant", [True, False])
def test_a_product_is_a_single_call(calls, shape, bias_F, is_constant):
    x, weight_FD = torch.randn(shape), torch.randn(F, D)
    changing = [] if is_constant else [weight_FD]
    check(lambda: linear(x, weight_FD, bias_F), [weight_FD] * is_constant, x, *changing)
    assert len(calls) == 1


def test_rows_that_are_not_side_by_side_are_multiplied_as_they_are(calls):
    x, weight_FD = torch.randn(3, D, 2).mT, torch.randn(F, D)
    check(lambda: linear(x, weight_FD), [weight_FD], x)


@pytest.mark.parametrize("turned", [False, True])
def test_a_branch_is_added_by_its_product(calls, turned):
    x, stream, weight_FD = torch.randn(3, 1, D), torch.randn(3, 1, F), torch.randn(F, D)

    def step():
        branch = linear(x, weight_FD)
        return branch + stream if turned else stream + branch

    check(step, [weight_FD], x, stream)
    assert len(calls) == 1


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oneDNN multiply from three rows on, if it is there."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    monkeypatch.setattr(products, "FEW_ROWS", 3)
    monkeypatch.setattr(products, "WORTH_ONEDNN", 3 * F * D)


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch, many: None) -> list[str]:
    """What is computed with products of many rows, each as it is laid out."""
    then, made = products.ProductOfMany._then, []

    def watched(self, function, form):
        made.append(function)
        return then(self, function, form)

    monkeypatch.setattr(products.ProductOfMany, "_then", watched)
    return made


@pytest.mark.parametrize("small", [0, 10**6])
@pytest.mark.parametrize("bias_F", [None, torch.randn(F)])
@pytest.mark.parametrize("is_constant", [True, False])
def test_many_rows_are_multiplied_by_onednn(
    calls, by_onednn, monkeypatch, small, bias_F, is_constant
):
    monkeypatch.setattr(products, "SMALL", small)
    x, stream, weight_FD = torch.randn(3, 1, D), torch.randn(3, 1, F), torch.randn(F, D)
    changing = [] if is_constant else [weight_FD]
    check(lambda: linear(x, weight_FD, bias_F), [weight_FD] * is_constant, x, *changing)
    assert len(calls) == 1
    check(lambda: stream + linear(x, weight_FD), [weight_FD], x, stream)
    assert len(calls) == 1
    assert by_onednn[0] == by_onednn[-1] == "none"
    by_onednn.clear()
    check(lambda: linear(x[:2], weight_FD), [weight_FD], x)
    check(lambda: linear(x.double(), weight_FD.double()), [weight_FD], x)
    assert by_onednn == []


@pytest.mark.parametrize("bias_F", [None, torch.randn(F)])
def test_gelu_is_taken_with_the_product(calls, by_onednn, bias_F):
    x, weight_FD = 3 * torch.randn(3, 1, D), torch.randn(F, D)
    check(lambda: exact_gelu(linear(x, weight_FD, bias_F)) * 2, [weight_FD], x)
    assert len(calls) == 2
    assert by_onednn == ["none", "gelu"]
    check(lambda: exact_gelu(y := linear(x, weight_FD, bias_F)) * y, [weight_FD], x)
    assert len(calls) == 3


OTHER_STEPS = {
    "used twice": lambda x, s, w: (y := linear(x, w)) * 2 + (s + y),
    "a view used too": lambda x, s, w: (y := linear(x, w))[..., :1] * (s + y),
    "another shape": lambda x, s, w: s[..., :1] + linear(x, w),
    "its input changed": lambda x, s, w: (h := x * 1, y := linear(h, w), h.mul_(0), s + y)[-1],
    "with a factor": lambda x, s, w: torch.add(s, linear(x, w), alpha=3),
    "another type": lambda x, s, w: s.double() + linear(x, w),
    "added to itself": lambda x, s, w: (y := linear(x, w)) + y,
    "added to a number": lambda x, s, w: linear(x, w) + 2,
}


@pytest.mark.parametrize("name", OTHER_STEPS)
@pytest.mark.parametrize("rows", ["few", "many"])
def test_other_sums_are_what_they_were(calls, name, rows, request):
    if rows == "many":
        request.getfixturevalue("many")
    x, stream, weight_FD = torch.randn(3, 1, D), torch.randn(3, 1, F), torch.randn(F, D)
    check(lambda: OTHER_STEPS[name](x, stream, weight_FD), [weight_FD], x, stream)
    assert len(calls) > 1


def test_rows_of_a_table_are_chosen_in_a_single_call(calls):
    ids_N1, table = torch.tensor([[1], [3]]), torch.randn(5, D)
    with torch.inference_mode():
        play = record(lambda: embedding(ids_N1, table), [table])
        ids_N1.copy_(torch.tensor([[4], [0]]))
        assert play().equal(table[ids_N1])
    assert len(calls) == 1


def test_the_products_of_one_input_are_joined_once(calls):
    layers = [Linear(D, width, "input") for width in (F, 2, 3)]
    for layer in layers:
        torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 1, D)
    step = lambda: torch.cat(list(side_by_side(x, *layers)), dim=-1)  # noqa: E731
    check(step, [layer.weight for layer in layers], x)
    assert len(calls) == 2  # a product, and what joins its parts here


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The numbers of rows that are summed as those of a table."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("torch was built without fbgemm")
    embedding_bag, made = torch.embedding_bag, []
    monkeypatch.setattr(products, "WORTH_FETCHING", 2 * 5 * F)
    monkeypatch.setattr(
        torch, "embedding_bag", lambda *args: made.append(args[1]) or embedding_bag(*args)
    )
    return made


def test_values_that_one_query_reads_are_summed_as_rows(calls, summed):
    for R, S in ((2, 5), (3, 7), (2, 6)):
        weights_R1S, values_RSE = torch.randn(R, 1, S), torch.randn(R, S, F)
        check(lambda: torch.bmm(weights_R1S, values_RSE), [], weights_R1S, values_RSE)  # noqa: B023
        assert len(calls) == 1
    assert [len(ids_X) for ids_X in summed] == [10, 21, 12]


@pytest.mark.parametrize(
    ("weights", "values"),
    [
        (torch.randn(2, 3, 5), torch.randn(2, 5, F)),
        (torch.randn(2, 1, 4), torch.randn(2, 4, F)),
        (torch.randn(2, 1, 5).double(), torch.randn(2, 5, F).double()),
        (torch.randn(2, 5, 1).mT[:, :, ::2], torch.randn(2, 6, F)[:, ::2]),
        (torch.randn(2, 1, 6), torch.randn(2, F, 6).mT),
    ],
)
def test_other_products_of_rows_are_what_they_were(summed, weights, values):
    check(lambda: torch.bmm(weights, values), [], weights, values)
    assert summed == []
