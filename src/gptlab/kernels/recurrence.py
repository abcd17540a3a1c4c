"""What recurrences over a state share: chunks of a text, and what decay and other texts leave.

A state S forgets, S_t = exp(g_t) S_(t-1) + ..., and starts over where another text begins. A chunk
of tokens is computed at once, by matrix products; from chunk to chunk goes the state.

segments_BT numbers the texts of a row: 0 for the one that the given state has read, one more
wherever another begins; None: one text. B may be 1 where all rows agree.

B batch, H heads, T tokens, N chunks, C tokens of a chunk.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

CHUNK = 64  # tokens: fewer are more steps, more are more products that a step by step form saves


@dataclass(frozen=True)
class Decays:
    """How much is left of what was written.

    within_BHNCC: from a chunk's token j in its token i; 0 where j comes later.
    from_state_BHNC1: of the state before the chunk. to_end_BHNC1: from a token in the state after.
    over_BHN11: of the state before the chunk in the state after.
    """

    within_BHNCC: Tensor
    from_state_BHNC1: Tensor
    to_end_BHNC1: Tensor
    over_BHN11: Tensor


def decays(log_decay_BHT: Tensor, segments_BT: Tensor | None, C: int) -> Decays:
    """Add up decay within chunks of C tokens, in log space: products would underflow."""
    T = log_decay_BHT.shape[2]
    total_BHNC = cut(log_decay_BHT, C).cumsum(-1)
    if segments_BT is None:
        segments_BT = torch.zeros(1, T, dtype=torch.long, device=log_decay_BHT.device)
    last = torch.arange(T + -T % C, device=segments_BT.device).clamp(max=T - 1)
    number_B1NC = segments_BT[:, None, last].unflatten(2, (-1, C))  # filler goes on with the last
    end_B1N1 = number_B1NC[..., -1:]
    before_B1N1 = pad(end_B1N1[:, :, :-1], (0, 0, 1, 0))
    same_B1NCC = number_B1NC[..., :, None] == number_B1NC[..., None, :]
    left_BHNCC = total_BHNC[..., :, None] - total_BHNC[..., None, :]
    from_state_BHNC1 = _left(total_BHNC, number_B1NC == before_B1N1).unsqueeze(-1)
    return Decays(
        _left(left_BHNCC, same_B1NCC.tril()),
        from_state_BHNC1,
        _left(total_BHNC[..., -1:] - total_BHNC, number_B1NC == end_B1N1).unsqueeze(-1),
        from_state_BHNC1[..., -1:, :],
    )


def _left(log: Tensor, seen: Tensor) -> Tensor:
    return log.masked_fill(~seen, -math.inf).exp()


def step_decay(log_decay_BHT: Tensor, segments_BT: Tensor | None) -> Tensor:
    """Compute what each token leaves of the state before it, for a step by step form."""
    if segments_BT is None:
        return log_decay_BHT.exp()
    goes_on_BT = segments_BT == pad(segments_BT[:, :-1], (1, 0))
    return _left(log_decay_BHT, goes_on_BT[:, None])


def cut(x_BHT: Tensor, C: int) -> Tensor:
    """Cut x_BHT or x_BHTE into chunks of C tokens, the last one filled up with zeros."""
    filler = (0, 0) * (x_BHT.dim() - 3) + (0, -x_BHT.shape[2] % C)
    return pad(x_BHT, filler).unflatten(2, (-1, C))
