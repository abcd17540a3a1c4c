"""Weighted sums of rows: what a single query makes of the values in a memory.

A product of a vector with a matrix, for which a product of matrices fetches memory too late: 32
texts of 256 tokens, 4 heads of 32, take 172 us with `bmm` on a thread of an AMD EPYC, 95 with
`embedding_bag`, whose kernel (FBGEMM's, for x86) asks for rows before it wants them; on two threads
89 and 55.

R vectors, S rows for each, E width of a row.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

MANY = 2**19  # numbers, which no cache next to a core holds


def are_many(rows_RSE: Tensor) -> bool:
    """Tell whether `weighted_rows` is the best way to add them up, on this machine."""
    is_cpu_float = rows_RSE.device.type == "cpu" and rows_RSE.dtype == torch.float32
    is_x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    is_watched = torch.is_grad_enabled() or torch.compiler.is_compiling()
    is_large = rows_RSE.numel() >= MANY and rows_RSE.is_contiguous()
    return is_cpu_float and is_x86 and is_large and not is_watched


def weighted_rows(weights_RS: Tensor, rows_RSE: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Give y_RE, the sums of rows times weights, without a gradient."""
    given = (weights_RS, rows_RSE)
    if has_torch_function(given):  # a single operation, for who notes them
        return handle_torch_function(weighted_rows, given, *given, out=out)
    numbers, starts = _bags(*weights_RS.shape)
    table = rows_RSE.view(-1, rows_RSE.shape[2])
    bag = torch.ops.aten._embedding_bag_forward_only.default
    y_RE = bag(table, numbers, starts, False, 0, False, weights_RS.view(-1))[0]
    return y_RE if out is None else out.copy_(y_RE)


@lru_cache(maxsize=4)
def _bags(R: int, S: int) -> tuple[Tensor, Tensor]:
    """Number all rows, and tell where those of each vector begin."""
    numbers = torch.arange(R * S, dtype=torch.int32)
    return numbers, numbers[::S].contiguous()
