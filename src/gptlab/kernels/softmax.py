"""Softmax attention under a mask, by torch's own kernels where they can, plainly where they cannot.

weights = softmax over keys of cap(scale * q k) + mask, where cap(z) = softcap * tanh(z / softcap).
A sink is one more logit per query head that takes its share of the weight and gives nothing.

B batch, H query heads, K key/value heads, T query tokens, S key tokens, E d_head.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from gptlab.kernels.causal import causal_attention
from gptlab.kernels.dropout import dropout

PLAIN_SCORES = 1024 * 1024  # scores of a head up to which the plain form is used in bfloat16
FLASH_WIDTH = 256  # the widest heads of flash attention on a GPU
ALIGNMENT = 8  # heads of another width than a multiple of this keep fused kernels away


@dataclass(frozen=True)
class Scoring:
    """How scores become weights."""

    scale: float
    softcap: float | None
    sinks_H: Tensor | None
    dropout: float


def softmax_attention(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    scoring: Scoring,
    causal: bool = False,
) -> Tensor:
    """Attend from queries to the keys that the mask shows, a boolean or what is added to scores.

    causal: query i sees the keys up to i, without a mask; T = S.
    """
    if mask is not None and attends_from_one(q_BHTE, scoring):
        return _attend_from_one(q_BHTE, k_BKSE, v_BKSE, added(mask, q_BHTE.dtype), scoring.scale)
    is_short = q_BHTE.shape[2] * k_BKSE.shape[2] <= PLAIN_SCORES
    is_boolean = mask is None or mask.dtype == torch.bool  # a bias needs float32 scores
    is_cpu_bf16 = q_BHTE.device.type == "cpu" and q_BHTE.dtype == torch.bfloat16
    if scoring.softcap is not None or (is_cpu_bf16 and is_short and is_boolean):
        return _attend_plainly(q_BHTE, k_BKSE, v_BKSE, mask, scoring, causal)
    if scoring.sinks_H is not None:
        return _attend_with_sink_key(q_BHTE, k_BKSE, v_BKSE, mask, scoring, causal)
    return _attend_fused(q_BHTE, k_BKSE, v_BKSE, mask, scoring, causal)


def attends_from_one(q_BHTE: Tensor, scoring: Scoring) -> bool:
    """Tell whether this is a single query that reads a memory best without torch's own kernels."""
    is_simple = scoring.softcap is None and scoring.sinks_H is None and scoring.dropout == 0
    is_cpu_float = q_BHTE.device.type == "cpu" and q_BHTE.dtype == torch.float32
    return q_BHTE.shape[2] == 1 and is_simple and is_cpu_float


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Give what is added to scores so that only what the mask shows is seen."""
    if mask.dtype == torch.bool:
        return torch.where(mask, 0.0, -math.inf).to(dtype)
    return mask.to(torch.promote_types(dtype, torch.float32))


def attends_in_blocks(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, scoring: Scoring) -> bool:
    """Tell whether `attend_in_blocks` computes this, and faster than torch's own kernels."""
    is_simple = scoring.softcap is None and scoring.sinks_H is None and scoring.dropout == 0
    kinds = {q_BHTE.dtype, k_BKSE.dtype, v_BKSE.dtype}
    is_cpu_bf16 = q_BHTE.device.type == "cpu" and kinds == {torch.bfloat16}
    return is_simple and is_cpu_bf16 and not torch.compiler.is_compiling()


def attend_in_blocks(
    q_BHTE: Tensor, k_BKTE: Tensor, v_BKTE: Tensor, scale: float, window: int | None
) -> Tensor:
    """Attend from every token to those up to itself, within a window if there is one."""
    K = k_BKTE.shape[1]
    q_RGTE = q_BHTE.unflatten(1, (K, -1)).flatten(0, 1)
    y_RGTE = causal_attention(q_RGTE, k_BKTE.flatten(0, 1), v_BKTE.flatten(0, 1), scale, window)
    return y_RGTE.unflatten(0, (-1, K)).flatten(1, 2)


def _attend_fused(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    scoring: Scoring,
    causal: bool,
) -> Tensor:
    """Call torch's kernel; the fused ones want values as wide as queries, which zeros make them."""
    width = max(q_BHTE.shape[-1], v_BKSE.shape[-1])
    if q_BHTE.device.type == "cuda" and not _groups_stay_fused(q_BHTE.dtype, width, mask):
        n = q_BHTE.shape[1] // k_BKSE.shape[1]
        k_BKSE, v_BKSE = k_BKSE.repeat_interleave(n, dim=1), v_BKSE.repeat_interleave(n, dim=1)
    y = scaled_dot_product_attention(
        _widen(q_BHTE, width),
        _widen(k_BKSE, width),
        _widen(v_BKSE, width),
        attn_mask=mask,
        dropout_p=scoring.dropout,
        is_causal=causal,
        scale=scoring.scale,
        enable_gqa=q_BHTE.shape[1] != k_BKSE.shape[1],
    )
    return y[..., : v_BKSE.shape[-1]]


def _groups_stay_fused(dtype: torch.dtype, width: int, mask: Tensor | None) -> bool:
    """Tell whether a GPU's fused kernels take grouped heads; if not, torch would hold all scores.

    Of those only flash attention does, which has neither float32 nor masks.
    """
    return dtype in (torch.bfloat16, torch.float16) and width <= FLASH_WIDTH and mask is None


def _widen(x_BHTE: Tensor, width: int) -> Tensor:
    E = x_BHTE.shape[-1]
    return x_BHTE if width == E else pad(x_BHTE, (0, width - E))  # a pad of nothing would copy


def _attend_with_sink_key(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    scoring: Scoring,
    causal: bool,
) -> Tensor:
    """Sinks for kernels that know of none: one more key, seen by all, whose value is zero.

    It points along a dimension of its own, in which a query holds its head's sink and all other
    keys hold nothing. It comes first; a causal query must then come one later, behind one of no
    meaning. For 1,024 tokens on a CPU it takes a tenth more time than no sinks, where the plain
    form takes twice as long (`benchmarks/sinks.py`).
    """
    assert scoring.sinks_H is not None
    B, H, T, E = q_BHTE.shape
    extra = ALIGNMENT - E % ALIGNMENT
    sinks_H = (scoring.sinks_H / scoring.scale).to(q_BHTE.dtype)
    sinks_BHT1 = sinks_H[:, None, None].expand(B, H, T, 1)
    queries = pad(torch.cat([q_BHTE, sinks_BHT1], dim=-1), (0, extra - 1, int(causal), 0))
    sink_key = k_BKSE.new_zeros(E + extra)
    sink_key[E] = 1.0
    keys = pad(k_BKSE, (0, extra))
    keys = torch.cat([sink_key.expand_as(keys[:, :, :1]), keys], dim=2)
    values = pad(v_BKSE, (0, extra, 1, 0))
    if mask is not None:
        mask = pad(mask, (1, 0), value=mask.dtype == torch.bool)  # shown, or no bias
    y = _attend_fused(queries, keys, values, mask, scoring, causal)
    return y[:, :, int(causal) :, : v_BKSE.shape[-1]]


def _attend_plainly(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    mask: Tensor | None,
    scoring: Scoring,
    causal: bool,
) -> Tensor:
    """Two products with a softmax between them, all scores in memory.

    For a softcap, which torch's kernels do not have, and for bfloat16 on a CPU, where torch's flash
    attention takes several times as long (2.13). Query heads of a group are rows of one product
    with their key/value head.
    """
    B, H, T, E = q_BHTE.shape
    K, S = k_BKSE.shape[1:3]
    q_RXE = q_BHTE.reshape(B * K, -1, E)  # R: a row's key/value head, X: queries of its group
    k_RES, v_RSE = k_BKSE.flatten(0, 1).transpose(1, 2), v_BKSE.flatten(0, 1)
    nothing = q_BHTE.new_zeros(1)
    scores_RXS = torch.baddbmm(nothing, q_RXE, k_RES, beta=0, alpha=scoring.scale)
    scores_BHTS = scores_RXS.view(B, H, T, S)
    if scoring.softcap is not None:  # before the mask: a capped -inf would be seen
        scores_BHTS = scoring.softcap * (scores_BHTS / scoring.softcap).tanh()
    if causal:
        mask = torch.ones(T, S, dtype=torch.bool, device=q_BHTE.device).tril()
    if mask is not None:
        scores_BHTS = scores_BHTS + added(mask, scores_BHTS.dtype)
    weights_BHTS = _softmax(scores_BHTS, scoring.sinks_H).to(v_BKSE.dtype)
    weights_RXS = dropout(weights_BHTS.reshape(B * K, -1, S), scoring.dropout)
    return (weights_RXS @ v_RSE).view(B, H, T, -1)


def _attend_from_one(
    q_BH1E: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, added_BH1S: Tensor, scale: float
) -> Tensor:
    """Two products, which take a quarter less time than torch's flash attention on a CPU (2.13),
    and half of it where heads are grouped.
    """
    (B, H), (K, S) = q_BH1E.shape[:2], k_BKSE.shape[1:3]
    q_RGE = q_BH1E.reshape(B * K, H // K, -1)  # R: a row's key/value head, G: its group
    if added_BH1S.numel() == S:
        added_RGS = added_BH1S.view(1, 1, S)
    else:
        added_RGS = added_BH1S.expand(B, H, 1, S).reshape(B * K, -1, S)
    k_RES, v_RSE = k_BKSE.flatten(0, 1).transpose(1, 2), v_BKSE.flatten(0, 1)
    weights_RGS = torch.baddbmm(added_RGS, q_RGE, k_RES, alpha=scale).softmax(-1)
    return torch.bmm(weights_RGS, v_RSE).view(B, H, 1, -1)


def _softmax(scores_BHTS: Tensor, sinks_H: Tensor | None) -> Tensor:
    if sinks_H is None:
        return scores_BHTS.softmax(-1)
    sinks_H11 = sinks_H.to(scores_BHTS.dtype)[:, None, None]
    sinks_BHT1 = sinks_H11.expand_as(scores_BHTS[..., :1])
    return torch.cat([scores_BHTS, sinks_BHT1], dim=-1).softmax(-1)[..., :-1]
