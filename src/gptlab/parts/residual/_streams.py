"""Several streams beside one another, from which a branch reads and to which it writes.

All streams open as copies of the embeddings and close as their mean. For each branch,

    h = sum_i read_i * H_i,    H'_j = sum_i mix_ji * H_i + write_j * F(norm(h))

This arithmetic is not counted as FLOPs, just as that of norms is not: n^2 + 2n multiplications per
branch, token and channel, beside the 4 to 8 d_model of the branch's own matrices.

B batch, T tokens, N streams read, M streams written, D d_model.
"""

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn

from gptlab.parts.needs import Needs
from gptlab.parts.residual import Branch, Ends

Weights = tuple[Tensor, Tensor, Tensor]


class StreamEnds(Ends):
    def __init__(self, norm: nn.Module, n_streams: int):
        super().__init__(norm)
        self.n_streams = n_streams

    def open(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unsqueeze(-2).expand(*x_BTD.shape[:-1], self.n_streams, -1)

    def close(self, stream: Tensor) -> Tensor:
        return self.norm(stream.mean(-2))


class StreamsResidual(nn.Module):
    """Pre-norm over streams; for each branch a module that makes `Weights` of stream_BTND.

    They are read_BTN, write_BTM and mix_BTMN, or the same for all tokens without B and T.
    """

    def __init__(self, needs: Needs, weights: Iterable[nn.Module]):
        super().__init__()
        self.weights = nn.ModuleList(weights)
        self.norms = nn.ModuleList(needs.norm.build(needs.d_model) for _ in self.weights)

    def forward(self, stream_BTND: Tensor, *branches: Branch) -> Tensor:
        for weights, norm, branch in zip(self.weights, self.norms, branches, strict=True):
            read_BTN, write_BTM, mix_BTMN = weights(stream_BTND)
            y_BTD = branch(norm((read_BTN.unsqueeze(-1) * stream_BTND).sum(-2)))
            written_BTMD = write_BTM.unsqueeze(-1) * y_BTD.unsqueeze(-2)
            stream_BTND = mixed(mix_BTMN, stream_BTND) + written_BTMD
        return stream_BTND


def mixed(mix_BTMN: Tensor, stream_BTND: Tensor) -> Tensor:
    """Apply mix to the streams one by one: autocast would round them for a matrix product."""
    parts = zip(mix_BTMN.unbind(-1), stream_BTND.unbind(-2), strict=True)
    return reduce(torch.add, (mix.unsqueeze(-1) * x.unsqueeze(-2) for mix, x in parts))
