"""Causal attention in blocks of queries, for CPUs.

Block after block, queries meet the keys that one of them may see, and no others: half of the scores
of a long text are never computed, with a window nearly all are not, and a block's scores stay in
the processor's cache. The gradient is written out. It wants the weights again: a few are kept, more
of them are computed anew, so that memory grows with the number of tokens alone.

R rows (a text's key/value head), G query heads of a group, T tokens, E d_head, F width of values,
C queries of a block, X = G C, S keys that it meets.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 256  # of 1,024 tokens: a third less time than without blocks; less is more calls
KEPT_SCORES = 2**25  # of a layer, all rows and heads: up to so many weights are kept
_rows_counted = ContextVar("_rows_counted", default=1.0)


@contextmanager
def rows_counted(times: float) -> Iterator[None]:
    """Keep weights or not as if there were so many times the rows: memory is told for more rows."""
    token = _rows_counted.set(times)
    try:
        yield
    finally:
        _rows_counted.reset(token)


def causal_attention(
    q_RGTE: Tensor, k_RTE: Tensor, v_RTF: Tensor, scale: float, window: int | None = None
) -> Tensor:
    """Attend from every query to the last `window` keys up to its own place; gives y_RGTF."""
    return CausalAttention.apply(q_RGTE, k_RTE, v_RTF, scale, window)


class Block(NamedTuple):
    """Queries from `start` to `end`, which see no key before `first`."""

    first: int
    start: int
    end: int


class CausalAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_RGTE: Tensor,
        k_RTE: Tensor,
        v_RTF: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        T = q_RGTE.shape[2]
        y_RGTF = q_RGTE.new_empty(*q_RGTE.shape[:3], v_RTF.shape[-1])
        n_scores = q_RGTE.shape[:3].numel() * min(T, window or T) * _rows_counted.get()
        keep = n_scores <= KEPT_SCORES and any(ctx.needs_input_grad)
        weights = []
        for block in _blocks(T, window):
            w_RXS = _weights(q_RGTE, k_RTE, block, scale, window)
            _write(y_RGTF, block, w_RXS @ v_RTF[:, block.first : block.end])
            if keep:
                weights.append(w_RXS)
        ctx.save_for_backward(q_RGTE, k_RTE, v_RTF, *weights)
        ctx.scale, ctx.window = scale, window
        return y_RGTF

    @staticmethod
    def backward(ctx: Any, dy_RGTF: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        q_RGTE, k_RTE, v_RTF, *kept = ctx.saved_tensors
        dq_RGTE = torch.empty_like(q_RGTE, memory_format=torch.contiguous_format)
        dk_RTE, dv_RTF = torch.zeros_like(k_RTE), torch.zeros_like(v_RTF)
        for number, block in enumerate(_blocks(q_RGTE.shape[2], ctx.window)):
            keys = slice(block.first, block.end)
            again = not kept
            w_RXS = _weights(q_RGTE, k_RTE, block, ctx.scale, ctx.window) if again else kept[number]
            dy_RXF, q_RXE = _rows(dy_RGTF, block), _rows(q_RGTE, block)
            dv_RTF[:, keys].baddbmm_(w_RXS.transpose(1, 2), dy_RXF)
            dw_RXS = dy_RXF @ v_RTF[:, keys].transpose(1, 2)
            ds_RXS = torch._softmax_backward_data(dw_RXS, w_RXS, -1, w_RXS.dtype)
            _write(dq_RGTE, block, _product(ds_RXS, k_RTE[:, keys], ctx.scale))
            dk_RTE[:, keys].baddbmm_(ds_RXS.transpose(1, 2), q_RXE, alpha=ctx.scale)
        return dq_RGTE, dk_RTE, dv_RTF, None, None


def _weights(
    q_RGTE: Tensor, k_RTE: Tensor, block: Block, scale: float, window: int | None
) -> Tensor:
    """Compute the weights of a block's queries, w_RXS."""
    first, start, end = block
    k_RES = k_RTE[:, first:end].transpose(1, 2)
    scores_RXS = _product(_rows(q_RGTE, block), k_RES, scale)
    scores_RGCS = scores_RXS.unflatten(1, (-1, end - start))
    scores_RGCS[..., start - first :] += _hidden(end - start, q_RGTE).triu_(1)
    if window and end - first > window:  # its last query does not see its first key
        n = end - first - window
        ahead = start + 1 - window - first  # by how much the first query's window begins later
        scores_RGCS[..., :n] += _hidden(end - start, q_RGTE, n).tril_(ahead - 1)
    return scores_RGCS.softmax(-1).flatten(1, 2)


def _blocks(T: int, window: int | None) -> Iterator[Block]:
    """Cut T queries into blocks."""
    reach = window or T
    return (
        Block(max(0, start + 1 - reach), start, min(start + BLOCK, T))
        for start in range(0, T, BLOCK)
    )


def _rows(x_RGTE: Tensor, block: Block) -> Tensor:
    """Make the queries of a block, of all heads of a group, the rows of one product."""
    return x_RGTE[:, :, block.start : block.end].flatten(1, 2)


def _write(x_RGTE: Tensor, block: Block, rows_RXE: Tensor) -> None:
    x_RGTE[:, :, block.start : block.end] = rows_RXE.unflatten(1, (-1, block.end - block.start))


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Scale * (a @ b), scaled before it is rounded."""
    return torch.baddbmm(a.new_zeros(1), a, b, beta=0, alpha=scale)


def _hidden(C: int, like: Tensor, n_keys: int | None = None) -> Tensor:
    """What hides a key when it is added to its score, for C queries."""
    return torch.full((C, n_keys or C), -math.inf, dtype=like.dtype, device=like.device)
