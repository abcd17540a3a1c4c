"""Linear attention: a state that adds up keys times values (arXiv:2006.16236).

    S_t = S_(t-1) + k_t v_t^T,    y_t = S_t^T q_t

B batch, H heads, T tokens, K width of keys, V width of values, N chunks, C tokens of a chunk.
"""

import torch
from torch import Tensor

from gptlab.kernels.precision import exact_products, precise
from gptlab.kernels.recurrence import CHUNK, cut, decays, step_decay


def linear_attention(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    state_BHKV: Tensor | None = None,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Give y_BHTV and the last state, both in float32 at least: sums grow with the text.

    state_BHKV: None is zeros. segments_BT: see `recurrence`.
    """
    q, k, v = map(precise, (q_BHTK, k_BHTK, v_BHTV))
    if state_BHKV is None:
        state_BHKV = v.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
    form = linear_attention_by_token if q.shape[2] == 1 else linear_attention_in_chunks
    with exact_products(v.device):  # errors of a state stay in it
        return form(q, k, v, state_BHKV, segments_BT)


def linear_attention_by_token(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    state_BHKV: Tensor,
    segments_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The equations as they stand: 4 K V FLOPs per token and head."""
    kept_11T = step_decay(q_BHTK.new_zeros(1, 1, q_BHTK.shape[2]), segments_BT)
    outputs = []
    for t in range(q_BHTK.shape[2]):
        q, k, v = q_BHTK[:, :, t, None], k_BHTK[:, :, t, None], v_BHTV[:, :, t, None]
        state_BHKV = kept_11T[:, :, t, None, None] * state_BHKV + k.mT @ v
        outputs.append(q @ state_BHKV)
    return torch.cat(outputs, dim=2), state_BHKV


def linear_attention_in_chunks(
    q_BHTK: Tensor,
    k_BHTK: Tensor,
    v_BHTV: Tensor,
    state_BHKV: Tensor,
    segments_BT: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The same in O(T C): a chunk reads itself by its scores, and what was before by the state."""
    T = q_BHTK.shape[2]
    C = min(CHUNK, T)
    left = decays(q_BHTK.new_zeros(1, 1, T), segments_BT, C)
    q, k, v = (cut(x, C) for x in (q_BHTK, k_BHTK, v_BHTV))
    own_BHNCV = ((q @ k.mT) * left.within_BHNCC) @ v
    q, k = q * left.from_state_BHNC1, k * left.to_end_BHNC1
    written_BHNKV = k.mT @ v
    outputs = []
    for n in range(q.shape[2]):
        outputs.append(own_BHNCV[:, :, n] + q[:, :, n] @ state_BHKV)
        state_BHKV = left.over_BHN11[:, :, n] * state_BHKV + written_BHNKV[:, :, n]
    return torch.cat(outputs, dim=2)[:, :, :T], state_BHKV
