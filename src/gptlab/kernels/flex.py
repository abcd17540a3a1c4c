"""Attention by torch's FlexAttention, which skips the blocks of scores that nobody sees. For GPUs.

For windows, chunks, documents and softcaps, of tokens that read one another, in training: the rest,
and dropout, is left to `attention.attend`. Its kernels are compiled for each length, and texts that
are not learned from come in all lengths. A sink takes its share afterwards, by the sum of all
weights: exp(lse) / (exp(lse) + exp(sink)) = sigmoid(lse - sink).

Texts are filled up to whole blocks: with others there have been gradients that are not a number.
Autocast is left outside, since with it there have been reads beyond a tensor's end.

B batch, H query heads, K key/value heads, T tokens, E d_head.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxOutput,
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)
from torch.nn.functional import pad

from gptlab.kernels import attention
from gptlab.kernels.attention import Bias
from gptlab.kernels.places import Places, sees
from gptlab.kernels.precision import exact_products

BLOCK = 128  # tokens: what FlexAttention skips or computes at once
NARROWEST, WIDEST = 16, 256  # d_head


def attend(
    q_BHTE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    *,
    queries: Places,
    keys: Places | None,
    window: int | None = None,
    chunk: int | None = None,
    bias: Bias | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Attend as `attention.attend` does."""
    T, E = q_BHTE.shape[2:]
    is_masked = queries.documents_BT is not None or min(window or T, chunk or T) < T
    widths = {E, v_BKTE.shape[-1]}
    is_possible = q_BHTE.requires_grad and keys is None and bias is None and dropout == 0.0
    fits = T >= BLOCK and min(widths) >= NARROWEST and max(widths) <= WIDEST
    if not (is_possible and fits and (is_masked or softcap is not None)):
        return attention.attend(
            q_BHTE,
            k_BKTE,
            v_BKTE,
            queries=queries,
            keys=keys,
            window=window,
            chunk=chunk,
            bias=bias,
            dropout=dropout,
            scale=scale,
            softcap=softcap,
            sinks_H=sinks_H,
        )
    blocks = queries.once(("blocks", window, chunk), lambda: block_mask(queries, window, chunk))
    dtype, filler = _dtype(q_BHTE), -T % BLOCK
    q, k, v = (pad(x.to(dtype), (0, 0, 0, filler)) for x in (q_BHTE, k_BKTE, v_BKTE))
    with exact_products(q.device):
        read = compiled(flex_attention)(
            q,
            k,
            v,
            score_mod=None if softcap is None else _cap(softcap),
            block_mask=blocks,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
            return_aux=None if sinks_H is None else AuxRequest(lse=True),
        )
    y_BHTE = read if sinks_H is None else _without_share(read, sinks_H)
    return y_BHTE[:, :, :T]


def _without_share(read: tuple[Tensor, AuxOutput], sinks_H: Tensor) -> Tensor:
    y_BHTE, aux = read
    assert aux.lse is not None
    return y_BHTE * (aux.lse - sinks_H[:, None]).sigmoid()[..., None].to(y_BHTE.dtype)


def block_mask(places: Places, window: int | None, chunk: int | None) -> BlockMask:
    """Tell which blocks of keys each block of queries sees something of, or all."""
    T = places.positions_BT.shape[1]
    padded = places.filled_up(0, -T % BLOCK)
    B, n = padded.positions_BT.shape
    step = 0 if B == 1 else n  # one row of places may stand for every row of a batch
    flat = padded.map(torch.flatten)

    def shown(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        at = flat.map(lambda x: x[row * step + query])
        return sees(at, flat.map(lambda x: x[row * step + key]), window, chunk)

    rows = None if B == 1 else B
    return compiled(create_block_mask)(shown, rows, None, n, n, padded.positions_BT.device, BLOCK)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for each set of shapes: as it is written, it would hold all scores.

    Within what is being compiled it becomes a part of that.
    """
    return function if torch.compiler.is_compiling() else _compiled(function)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def _dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _cap(limit: float) -> Callable[..., Tensor]:
    def score_mod(score: Tensor, *where: Tensor) -> Tensor:
        return limit * (score / limit).tanh()

    return score_mod


KERNELS = {attention.attend: attend}
