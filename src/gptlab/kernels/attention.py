"""Softmax attention, with the cheapest form that shows each query exactly what it may see.

A query sees the keys of its own document that stand before it, its own included: with a window of
W the last W of them, with chunks of C those in the same C positions (`places.py`).

B batch, H query heads, K key/value heads, T query tokens, S key tokens, E d_head,
C queries per band, N bands.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, cat
from torch.nn.functional import pad

from gptlab.kernels.places import Places, visible
from gptlab.kernels.softmax import (
    Scoring,
    added,
    attend_in_blocks,
    attends_from_one,
    attends_in_blocks,
    softmax_attention,
)

BAND = 128  # queries that share a band of keys: smaller wastes calls, larger wastes masked scores

Bias = Callable[[Tensor], Tensor]


def attend(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
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
    """Attend from queries to keys and values; heads are grouped, never expanded.

    keys: where the keys stand; None means that they are those of the queries' own tokens.
    bias: maps distances (..., T, S) to what is added to the scores (..., H, T, S); layers with an
    equal one share their masks, as far as they see the same keys.
    scale: multiplies the scores; None means E^-0.5. softcap: bounds them, before bias and mask, by
    softcap * tanh(score / softcap). sinks_H: a logit per head that takes weight and gives nothing.
    """
    T, E = q_BHTE.shape[2:]
    scoring = Scoring(E**-0.5 if scale is None else scale, softcap, sinks_H, dropout)
    if keys is None and queries.documents_BT is None and chunk is not None and chunk >= T:
        chunk = None  # a text from its start, within the first chunk
    is_plain = bias is None and chunk is None and queries.documents_BT is None
    if is_plain and keys is None and attends_in_blocks(q_BHTE, k_BKSE, v_BKSE, scoring):
        return attend_in_blocks(q_BHTE, k_BKSE, v_BKSE, scoring.scale, window)
    reach = window or chunk or T
    if keys is None and reach < T:
        return _attend_in_bands(q_BHTE, k_BKSE, v_BKSE, queries, window, chunk, bias, scoring)
    if is_plain and keys is None:
        return softmax_attention(q_BHTE, k_BKSE, v_BKSE, None, scoring, causal=True)
    mask = _mask(queries, keys, window, chunk, bias, q_BHTE.dtype)
    if attends_from_one(q_BHTE, scoring):
        mask = queries.once(("added", mask), lambda: added(mask, q_BHTE.dtype))
    return softmax_attention(q_BHTE, k_BKSE, v_BKSE, mask, scoring)


def visible_keys(T: int, window: int | None, chunk: int | None = None) -> float:
    """How many keys a query sees, averaged over T positions."""
    if chunk is not None:
        whole, rest = divmod(T, chunk)
        return (whole * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2) / T
    W = min(window or T, T)
    return (W * (W + 1) / 2 + (T - W) * W) / T


def _mask(
    queries: Places,
    keys: Places | None,
    window: int | None,
    chunk: int | None,
    bias: Bias | None,
    dtype: torch.dtype,
) -> Tensor:
    """Build a mask, or find what another layer has built for the same places."""
    return queries.once(
        ("mask", keys, window, chunk, bias, dtype),
        lambda: _build_mask(queries, keys or queries, window, chunk, bias, dtype),
    )


def _build_mask(
    queries: Places,
    keys: Places,
    window: int | None,
    chunk: int | None,
    bias: Bias | None,
    dtype: torch.dtype,
) -> Tensor:
    """Build what `softmax_attention` wants: a boolean, or the bias with -inf where nothing is seen.

    As (..., 1, T, S) or (..., H, T, S).
    """
    seen = visible(queries, keys, window, chunk)[..., None, :, :]
    if bias is None:
        return seen
    distance = queries.positions_BT[..., :, None] - keys.positions_BT[..., None, :]
    return bias(distance).masked_fill(~seen, -math.inf).to(dtype)


def _attend_in_bands(
    q_BHTE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    places: Places,
    window: int | None,
    chunk: int | None,
    bias: Bias | None,
    scoring: Scoring,
) -> Tensor:
    """Causal attention within a window or in chunks, in O(T * window) time and memory.

    Queries are cut into bands of C; a band sees the keys of its own band and of the bands before
    it that the window reaches. Bands become rows of the batch.
    """
    B, T = q_BHTE.shape[0], q_BHTE.shape[2]
    C = min(BAND, T)
    reach = math.ceil(((window or chunk or T) - 1) / C)  # bands before its own that a band must see
    N = math.ceil(T / C)
    filler = N * C - T

    def bands(x: Tensor, dim: int) -> Tensor:
        """Give each band the keys that it may see: (..., T, ...) to (..., N, S, ...)."""
        cut = x.unflatten(dim, (reach + N, C))
        return cat([cut.narrow(dim, i, N) for i in range(reach + 1)], dim=dim + 1)

    def key_bands(x_BKTE: Tensor) -> Tensor:
        return bands(pad(x_BKTE, (0, 0, reach * C, filler)), 2).transpose(1, 2).flatten(0, 1)

    def build_mask() -> Tensor:
        queries = places.filled_up(0, filler).map(lambda x_BT: x_BT.unflatten(1, (N, C)))
        keys = places.filled_up(reach * C, filler).map(lambda x_BT: bands(x_BT, 1))
        mask = _build_mask(queries, keys, window, chunk, bias, q_BHTE.dtype)
        return mask.expand(B, *mask.shape[1:]).flatten(0, 1)

    mask = places.once(("bands", B, window, chunk, bias, q_BHTE.dtype), build_mask)
    q = pad(q_BHTE, (0, 0, 0, filler)).unflatten(2, (N, C)).transpose(1, 2).flatten(0, 1)
    y = softmax_attention(q, key_bands(k_BKTE), key_bands(v_BKTE), mask, scoring)
    return y.unflatten(0, (B, N)).transpose(1, 2).flatten(2, 3)[:, :, :T]
