"""A short causal convolution of every channel by itself, over each text alone.

    y_t = sum over i < W of w_i x_(t - W + 1 + i)

B batch, T tokens, C channels, W width, P = W - 1 inputs of the past.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad


def short_convolution(
    x_BTC: Tensor, weight_WC: Tensor, past_BPC: Tensor, segments_BT: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Give y_BTC, in the wider of both types, and the past of the token after the last.

    The past holds zeros for what is of another text; segments_BT as in `recurrence`. A product
    per tap takes half as long on a CPU as torch's grouped convolution.
    """
    T, P = x_BTC.shape[1], past_BPC.shape[1]
    x = torch.cat([past_BPC, x_BTC], dim=1)
    taps = [x[:, i : i + T] for i in range(P + 1)]
    past_BPC = x[:, T:]
    if segments_BT is not None:
        number = pad(segments_BT, (P, 0)).unsqueeze(-1)
        now = segments_BT.unsqueeze(-1)
        taps = [tap.masked_fill(number[:, i : i + T] != now, 0) for i, tap in enumerate(taps)]
        past_BPC = past_BPC.masked_fill(number[:, T:] != number[:, -1:], 0)
    y_BTC = taps[0] * weight_WC[0]
    for tap, weight_C in zip(taps[1:], weight_WC[1:], strict=True):
        y_BTC = y_BTC + tap * weight_C
    return y_BTC, past_BPC
