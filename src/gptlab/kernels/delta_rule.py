"""The gated delta rule: a state that forgets, and learns what it does not yet know.

    S_t = a_t S_(t-1) + b_t k_t (v_t - (a_t S_(t-1))^T k_t)^T,    y_t = S_t^T q_t

with decay a = exp(log_decay) <= 1 and rate b, per head and token (Gated DeltaNet, arXiv:2412.06464;
without decay DeltaNet, arXiv:2406.06484). Keys of length 1 and 0 <= b <= 2 keep S bounded.

B batch, H heads, T tokens, K width of keys, V width of values, N chunks, C tokens of a chunk.
"""

import torch
from torch import Tensor

from gptlab.kernels.precision import exact_products, precise
from gptlab.kernels.recurrence import CHUNK, cut, decays, step_decay


def delta_rule(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    log_decay_BHT: Tensor,
    rate_BHT: Tensor,
    state_BHKV: Tensor | None = None,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Give y_BHTV, in the values' type, and the last state, in float32 at least.

    state_BHKV: None is zeros. segments_BT: see `recurrence`.
    """
    q, k, v, log_decay, rate = map(precise, (q_BHTK, k_BHTK, v_BHTV, log_decay_BHT, rate_BHT))
    if state_BHKV is None:
        state_BHKV = v.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    form = delta_rule_by_token if q.shape[2] == 1 else delta_rule_in_chunks
    with exact_products(v.device):  # errors of a state stay in it
        y, last = form(q, k, v, log_decay, rate, state_BHKV, segments_BT)
    return y.to(v_BHTV.dtype), last


def delta_rule_by_token(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    log_decay_BHT: Tensor,
    rate_BHT: Tensor,
    state_BHKV: Tensor,
    segments_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The equations as they stand: 6 K V FLOPs per token and head."""
    decay_BHT = step_decay(log_decay_BHT, segments_BT)
    outputs = []
    for t in range(q_BHTK.shape[2]):
        q, k, v = q_BHTK[:, :, t, None], k_BHTK[:, :, t, None], v_BHTV[:, :, t, None]
        state_BHKV = decay_BHT[:, :, t, None, None] * state_BHKV
        error = v - k @ state_BHKV
        state_BHKV = state_BHKV + k.mT @ (rate_BHT[:, :, t, None, None] * error)
        outputs.append(q @ state_BHKV)
    return torch.cat(outputs, dim=2), state_BHKV


def delta_rule_in_chunks(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    log_decay_BHT: Tensor,
    rate_BHT: Tensor,
    state_BHKV: Tensor,
    segments_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The same in O(T C): what a chunk's tokens write solves a triangular system.

    Token i writes k_i u_i, with u_i = b_i (v_i - what is left in i of the state and of k_j u_j, j
    before i, as k_i reads it). So (1 + L) U = b V - b K S, where L_ij = b_i (k_i k_j) left_ij.
    Both right sides are known without the state, and solved for at once. In training on a CPU, five
    to fifteen times as fast as token by token (`benchmarks/recurrence.py`).
    """
    T, V = v_BHTV.shape[2:]
    C = min(CHUNK, T)
    left = decays(log_decay_BHT, segments_BT, C)
    q, k, v = (cut(x, C) for x in (q_BHTK, k_BHTK, v_BHTV))
    rate = cut(rate_BHT, C).unsqueeze(-1)
    system = rate * (k @ k.mT) * left.within_BHNCC  # the solver takes its diagonal for ones
    right = torch.cat([rate * v, rate * left.from_state_BHNC1 * k], dim=-1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    of_values, of_state = solved.split([V, solved.shape[-1] - V], dim=-1)
    scores, q = (q @ k.mT) * left.within_BHNCC, q * left.from_state_BHNC1
    k = k * left.to_end_BHNC1
    outputs = []
    for n in range(q.shape[2]):
        u_BHCV = of_values[:, :, n] - of_state[:, :, n] @ state_BHKV
        outputs.append(q[:, :, n] @ state_BHKV + scores[:, :, n] @ u_BHCV)
        state_BHKV = left.over_BHN11[:, :, n] * state_BHKV + k[:, :, n].mT @ u_BHCV
    return torch.cat(outputs, dim=2)[:, :, :T], state_BHKV
