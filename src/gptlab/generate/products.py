"""The products of a recorded step, in the fewest and cheapest calls.

`linear` is `mm` behind questions whose answers are known once shapes are; small weights may lie as
`mm` reads them best; where what it gives is only added to something, as a branch is to the stream,
the product adds it; many rows are multiplied by oneDNN, which also takes GELU with it; and what one
query reads of its values is summed as rows of a table, which are fetched ahead.

N rows, I inputs, O outputs; R heads of all texts, S slots, E width of a head.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from gptlab.generate.operations import Call, Operation, memory
from gptlab.kernels.gelu import exact_gelu
from gptlab.parts.layers import SMALL

FEW_ROWS = 8  # below which a product waits for its weights, however it is computed
WORTH_FETCHING = 2**18  # values, a megabyte, fewer of which are near at hand
WORTH_ONEDNN = 2**20  # products of numbers, which outweigh what a call of oneDNN's costs


@dataclass(frozen=True)
class Product:
    """y = x W + bias."""

    x_NI: Tensor
    weight_IO: Tensor
    bias_O: Tensor | None
    y_NO: Tensor

    def call(self) -> Call:
        if self.bias_O is None:
            return partial(torch.mm, self.x_NI, self.weight_IO, out=self.y_NO)
        return partial(torch.addmm, self.bias_O, self.x_NI, self.weight_IO, out=self.y_NO)

    def added_to(self, other_NO: Tensor, sum_NO: Tensor) -> Call:
        return partial(torch.addmm, other_NO, self.x_NI, self.weight_IO, out=sum_NO)


@dataclass(frozen=True)
class ProductOfMany:
    """The same of many rows in float32, by oneDNN: on AMD's processors twice as fast as by MKL."""

    x_NI: Tensor
    weight_OI: Tensor
    bias_O: Tensor | None
    y_NO: Tensor

    def call(self) -> Call:
        compute = self._then("none", "")
        return lambda: self.y_NO.copy_(compute())

    def added_to(self, other_NO: Tensor, sum_NO: Tensor) -> Call:
        compute = self._then("none", "")
        return lambda: torch.add(other_NO, compute(), out=sum_NO)

    def activated(self, out_NO: Tensor) -> Call:
        compute = self._then("gelu", "none")
        return lambda: out_NO.copy_(compute())

    def _then(self, function: str, form: str) -> Callable[[], Tensor]:
        product = torch.ops.mkldnn._linear_pointwise.default
        return partial(product, self.x_NI, self.weight_OI, self.bias_O, function, [], form)


AnyProduct = Product | ProductOfMany


def lay_out(
    operations: Sequence[Operation],
    changing: set[int],
    result: Tensor,
    products: dict[Operation, AnyProduct | None],
) -> list[Call]:
    """List the calls that do these operations again.

    changing: the memory that they change. products: of operations that were laid out before; those
    of others are added.
    """
    readers = Counter([memory(result), *(x for each in operations for x in each.reads)])
    changed = {x for each in operations if each.again for x in each.fills & each.reads}
    calls = {each: each.again for each in operations if each.again}
    to_add: dict[int, tuple[Operation, AnyProduct]] = {}  # by the tensor that is only added
    to_bend: dict[int, tuple[Operation, ProductOfMany]] = {}  # by the tensor that is only activated
    for each in [*calls]:
        if each.function is linear:
            if each not in products:
                (y,) = each.made
                products[each] = _product(*each.args, **each.kwargs, y=y, changing=changing)
            product = products[each]
            if product is None:
                continue
            calls[each] = product.call()
            if readers[memory(product.y_NO)] > 1 or memory(product.x_NI) in changed:
                continue
            if product.bias_O is None:
                to_add[id(each.made[0])] = each, product
            if isinstance(product, ProductOfMany):
                to_bend[id(each.made[0])] = each, product
        elif each.function is exact_gelu and id(each.args[0]) in to_bend:
            earlier, product = to_bend[id(each.args[0])]
            calls[each] = product.activated(each.made[0].view(product.y_NO.shape))
            del calls[earlier]
        elif each.function is embedding:
            calls[each] = _choice(each, *each.args, **each.kwargs)
        elif each.function == torch.bmm:
            calls[each] = _reading(each, *each.args, **each.kwargs)
        elif (found := _sum_with(to_add, each)) is not None:
            earlier, calls[each] = found
            del calls[earlier]
    return list(calls.values())


def _product(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, y: Tensor, changing: set[int]
) -> AnyProduct | None:
    """Read the arguments of `linear`; None for rows that do not lie side by side, or autocast."""
    given = [x for x in (input, weight, bias) if x is not None]
    if not (input.is_contiguous() and y.is_contiguous() and {x.dtype for x in given} == {y.dtype}):
        return None
    x_NI, y_NO = input.view(-1, weight.shape[1]), y.view(-1, len(weight))
    may_lie_otherwise = weight.numel() <= SMALL and memory(weight) not in changing
    if _is_for_onednn(x_NI, weight):
        if may_lie_otherwise:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight, len(x_NI))
        return ProductOfMany(x_NI, weight, bias, y_NO)
    weight_IO = weight.t().contiguous() if may_lie_otherwise else weight.t()
    return Product(x_NI, weight_IO, bias, y_NO)


def _is_for_onednn(x_NI: Tensor, weight_OI: Tensor) -> bool:
    is_cpu_float = x_NI.device.type == "cpu" and x_NI.dtype == torch.float32
    is_large = len(x_NI) >= FEW_ROWS and len(x_NI) * weight_OI.numel() >= WORTH_ONEDNN
    return is_cpu_float and is_large and torch._C._get_mkldnn_enabled()


def _choice(
    operation: Operation, input: Tensor, weight: Tensor, *, max_norm: float | None = None, **_: Any
) -> Call:
    """Read the arguments of `embedding`."""
    (y,) = operation.made
    assert operation.again is not None
    if max_norm is not None or not input.is_contiguous():
        return operation.again
    rows_ND = y.view(-1, weight.shape[1])
    return partial(torch.index_select, weight, 0, input.view(-1), out=rows_ND)


def _reading(
    operation: Operation, input: Tensor, mat2: Tensor, *, out: Tensor | None = None
) -> Call:
    """Read the arguments of `bmm`: of one query per head, it is a sum of weighted rows."""
    (y,), given = operation.made, (input, mat2)
    assert operation.again is not None
    are_plain = all(x.dtype == torch.float32 and x.is_cpu and x.is_contiguous() for x in given)
    is_sum = input.shape[1] == 1 and mat2.numel() >= WORTH_FETCHING and out is None
    if not (is_sum and are_plain and _has_fbgemm()):
        return operation.again
    R, S, E = mat2.shape
    weights_X, rows_XE, y_RE = input.view(-1), mat2.view(-1, E), y.view(R, E)
    ids_X, starts = _side_by_side(R, S)
    of = (False, 0, False, weights_X, True)  # sums, and `starts` has an end
    return lambda: y_RE.copy_(torch.embedding_bag(rows_XE, ids_X, starts, *of)[0])


@lru_cache(maxsize=2)
def _side_by_side(R: int, S: int) -> tuple[Tensor, Tensor]:
    """Number R times S rows, and say where each S begin and where all end."""
    return torch.arange(R * S, dtype=torch.int32), torch.arange(0, R * S + 1, S, dtype=torch.int32)


def _has_fbgemm() -> bool:
    """Tell whether torch has the kernels for it, which are for x86."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def _sum_with(
    to_add: dict[int, tuple[Operation, AnyProduct]], operation: Operation
) -> tuple[Operation, Call] | None:
    """Find the product that a sum is of; give its operation, and a call that does both."""
    total = operation.made[0]
    is_sum = getattr(operation.function, "__name__", "") == "add" and not operation.kwargs
    addends = operation.args if is_sum else ()
    for one, other in (addends, addends[::-1]) if len(addends) == 2 else ():
        if id(one) in to_add and one is not other and _are_alike(one, other, total):
            earlier, product = to_add.pop(id(one))
            shape = product.y_NO.shape
            return earlier, product.added_to(other.view(shape), total.view(shape))
    return None


def _are_alike(first: Tensor, *others: Any) -> bool:
    """Tell whether these are tensors of one form, side by side in memory."""
    return first.is_contiguous() and all(
        isinstance(x, Tensor)
        and (x.shape, x.dtype) == (first.shape, first.dtype)
        and x.is_contiguous()
        for x in others
    )
