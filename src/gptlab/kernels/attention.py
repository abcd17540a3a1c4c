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
from torch.nn.functional import dropout as torch_dropout
from torch.nn.functional import pad, scaled_dot_product_attention

BAND = 128  # queries that share a band of keys: smaller wastes calls, larger wastes masked scores
PLAIN_SCORES = 1024 * 1024  # scores of a head up to which the plain form is used in bfloat16


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
) -> Tensor:
    """Attend from queries to keys and values; heads are grouped, never expanded.

    key_positions_S: None means that the keys are those of the queries' own tokens, so T = S.
    For a single query (T = 1) every given key must be visible, which caches guarantee.
    bias: maps distances t - s to what is added to the scores, as HTS; a function of distance only.
    """
    T = q_BHTE.shape[2]
    if key_positions_S is None:
        if window is not None and window < T:
            return _attend_in_bands(q_BHTE, k_BKSE, v_BKSE, window, bias, dropout)
        if bias is None:
            return _attend(q_BHTE, k_BKSE, v_BKSE, None, dropout, causal=True)
        key_positions_S = query_positions_T
    if T == 1 and bias is None:
        return _attend(q_BHTE, k_BKSE, v_BKSE, None, dropout)
    distance_TS = query_positions_T[:, None] - key_positions_S[None, :]
    mask = visibility(distance_TS, window, bias, q_BHTE.dtype)
    return _attend(q_BHTE, k_BKSE, v_BKSE, mask, dropout)


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
    dropout: float,
) -> Tensor:
    """Causal attention within a window, in O(T * window) time and memory.

    Queries are cut into bands of C; a band sees the keys of its own band and of the bands before
    it that the window reaches. Bands become rows of the batch.
    """
    B, _, T, E = q_BHTE.shape
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
    y = _attend(q, bands(k_BKTE), bands(v_BKTE), mask, dropout)
    y_BHTE = y.unflatten(0, (B, N)).transpose(1, 2).reshape(B, -1, N * C, E)
    return y_BHTE[:, :, :T]


def _attend(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool = False,
) -> Tensor:
    is_short = q_BHTE.shape[2] * k_BKSE.shape[2] <= PLAIN_SCORES
    is_boolean = mask is None or mask.dtype == torch.bool  # a bias needs float32 scores
    is_cpu_bf16 = q_BHTE.device.type == "cpu" and q_BHTE.dtype == torch.bfloat16
    if is_cpu_bf16 and is_short and is_boolean:
        return _attend_plainly(q_BHTE, k_BKSE, v_BKSE, mask, dropout, causal)
    return scaled_dot_product_attention(
        q_BHTE,
        k_BKSE,
        v_BKSE,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=q_BHTE.shape[1] != k_BKSE.shape[1],
    )


def _attend_plainly(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
) -> Tensor:
    """Two products with a softmax between them, all scores in memory.

    For bfloat16 on a CPU, where torch's flash attention takes several times as long (2.13). Query
    heads of a group are rows of one product with their key/value head.
    """
    B, H, T, E = q_BHTE.shape
    K, S = k_BKSE.shape[1:3]
    q_RXE = q_BHTE.reshape(B * K, -1, E)  # R: a row's key/value head, X: queries of its group
    k_RES, v_RSE = k_BKSE.flatten(0, 1).transpose(1, 2), v_BKSE.flatten(0, 1)
    nothing = q_BHTE.new_zeros(1)
    scores_RXS = torch.baddbmm(nothing, q_RXE, k_RES, beta=0, alpha=E**-0.5)
    if causal:
        mask = torch.ones(T, S, dtype=torch.bool, device=q_BHTE.device).tril()
    if mask is not None:
        hidden = scores_RXS.new_zeros(mask.shape).masked_fill(~mask, -math.inf)
        scores_RXS = (scores_RXS.view(B, H, T, S) + hidden).view_as(scores_RXS)
    weights_RXS = torch_dropout(scores_RXS.softmax(-1), dropout)
    return (weights_RXS @ v_RSE).view(B, H, T, -1)
