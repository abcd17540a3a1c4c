"""Softmax attention, with the cheapest form that shows each query exactly what it may see.

A query at position t sees the keys at positions s with 0 <= t - s, and t - s < window if there is
one: a window of W shows W keys, the query's own included.

B batch, H query heads, K key/value heads, T query tokens, S key tokens, E d_head,
C queries per band, N bands.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from gptlab.kernels.softmax import Scoring, softmax_attention

BAND = 128  # queries that share a band of keys: smaller wastes calls, larger wastes masked scores


def attend(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    *,
    query_positions_T: Tensor,
    key_positions_S: Tensor | None,
    window: int | None = None,
    bias: Callable[[Tensor], Tensor] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Attend from queries to keys and values; heads are grouped, never expanded.

    key_positions_S: None means that the keys are those of the queries' own tokens, so T = S.
    For a single query (T = 1) every given key must be visible, which caches guarantee.
    bias: maps distances t - s to what is added to the scores, as HTS; a function of distance only.
    scale: multiplies the scores; None means E^-0.5. softcap: bounds them, before bias and mask, by
    softcap * tanh(score / softcap). sinks_H: a logit per head that takes weight and gives nothing.
    """
    T, E = q_BHTE.shape[2:]
    scoring = Scoring(E**-0.5 if scale is None else scale, softcap, sinks_H, dropout)
    if key_positions_S is None:
        if window is not None and window < T:
            return _attend_in_bands(q_BHTE, k_BKSE, v_BKSE, window, bias, scoring)
        if bias is None:
            return softmax_attention(q_BHTE, k_BKSE, v_BKSE, None, scoring, causal=True)
        key_positions_S = query_positions_T
    if T == 1 and bias is None:
        return softmax_attention(q_BHTE, k_BKSE, v_BKSE, None, scoring)
    distance_TS = query_positions_T[:, None] - key_positions_S[None, :]
    mask = visibility(distance_TS, window, bias, q_BHTE.dtype)
    return softmax_attention(q_BHTE, k_BKSE, v_BKSE, mask, scoring)


def visibility(
    distance_TS: Tensor,
    window: int | None,
    bias: Callable[[Tensor], Tensor] | None,
    dtype: torch.dtype,
) -> Tensor:
    """Build a mask from distances: boolean, or the bias with -inf where nothing may be seen."""
    seen_TS = distance_TS >= 0
    if window is not None:
        seen_TS &= distance_TS < window
    if bias is None:
        return seen_TS
    return bias(distance_TS).masked_fill(~seen_TS, -math.inf).to(dtype)


def visible_keys(T: int, window: int | None) -> float:
    """How many keys a query sees, averaged over T positions."""
    W = min(window or T, T)
    return (W * (W + 1) / 2 + (T - W) * W) / T


def _attend_in_bands(
    q_BHTE: Tensor,
    k_BKTE: Tensor,
    v_BKTE: Tensor,
    window: int,
    bias: Callable[[Tensor], Tensor] | None,
    scoring: Scoring,
) -> Tensor:
    """Causal attention within a window, in O(T * window) time and memory.

    Queries are cut into bands of C; a band sees the keys of its own band and of the bands before
    it that the window reaches. Bands become rows of the batch.
    """
    B, T = q_BHTE.shape[0], q_BHTE.shape[2]
    C = min(BAND, T)
    reach = math.ceil((window - 1) / C)  # bands before its own that a band must see
    N = math.ceil(T / C)
    filler = N * C - T
    q_BHNCE = pad(q_BHTE, (0, 0, 0, filler)).unflatten(2, (N, C))

    def bands(x_BKTE: Tensor) -> Tensor:
        x_BKNCE = pad(x_BKTE, (0, 0, reach * C, filler)).unflatten(2, (reach + N, C))
        shifted = [x_BKNCE[:, :, i : i + N] for i in range(reach + 1)]
        return torch.cat(shifted, dim=3).transpose(1, 2).flatten(0, 1)

    i_C = torch.arange(C, device=q_BHTE.device)
    j_S = torch.arange((reach + 1) * C, device=q_BHTE.device)
    distance_CS = i_C[:, None] + reach * C - j_S[None, :]
    before_start_N1S = j_S < (reach - torch.arange(N, device=q_BHTE.device))[:, None, None] * C
    mask = visibility(distance_CS, window, bias, q_BHTE.dtype)
    if bias is None:
        mask = (mask & ~before_start_N1S)[:, None]
    else:
        mask = mask.masked_fill(before_start_N1S[:, None], -math.inf)
    mask = mask.expand(B, *mask.shape).flatten(0, 1)
    q = q_BHNCE.transpose(1, 2).flatten(0, 1)
    y = softmax_attention(q, bands(k_BKTE), bands(v_BKTE), mask, scoring)
    y_BHTE = y.unflatten(0, (B, N)).transpose(1, 2).flatten(2, 3)
    return y_BHTE[:, :, :T]
