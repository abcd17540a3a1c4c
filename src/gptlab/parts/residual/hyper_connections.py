"""Hyper-connections: several streams, and learned weights to read, write and mix them.

    h = A_m^T H,    H' = B^T F(norm(h)) + A_r^T H    (arXiv:2409.19606)

Static: A_m, B and A_r are parameters. Dynamic: to each is added scale * tanh(norm(H) W), W shared
by the streams and at first zero. A_m starts as one stream, another for each branch in turn, B as
ones, A_r as the identity: with any number of streams the model starts as pre-norm. The paper closes
with the sum of the streams; the mean differs from it before a norm by the norm's eps alone, and
makes the start exact. One stream is worse than pre-norm by the paper, four are best; activations
take n_streams times the memory.

B batch, T tokens, N streams, M streams after mixing, D d_model.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gptlab.parts.layers import Linear
from gptlab.parts.needs import Needs
from gptlab.parts.residual import Ends, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut
from gptlab.parts.residual._streams import StreamEnds, StreamsResidual, Weights

SCALE = 0.01  # how much of the dynamic part there is at first


class HyperConnections(Residual):
    """`dynamic`: whether the weights depend on the token."""

    n_streams: Annotated[int, Field(gt=0, le=64)] = 4
    dynamic: bool = True

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        first = layer * n_branches
        return StreamsResidual(
            needs,
            [
                DynamicWeights(needs, self.n_streams, k % self.n_streams)
                if self.dynamic
                else StaticWeights(self.n_streams, k % self.n_streams)
                for k in range(first, first + n_branches)
            ],
        )

    def build_ends(self, needs: Needs) -> Ends:
        return StreamEnds(needs.norm.build(needs.d_model), self.n_streams)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        around = f"mix {self.n_streams} streams"
        return in_a_row([shortcut(["read", norm, branch, "write"], around) for branch in branches])


class StaticWeights(nn.Module):
    """A row per stream: its entry of B, its entry of A_m, its row of A_r."""

    def __init__(self, n_streams: int, read: int):
        super().__init__()
        ones, identity = torch.ones(n_streams, 1), torch.eye(n_streams)
        self.static = nn.Parameter(torch.cat([ones, identity[:, read, None], identity], dim=1))

    def forward(self, stream_BTND: Tensor) -> Weights:
        return take_apart(self.static)


class DynamicWeights(StaticWeights):
    def __init__(self, needs: Needs, n_streams: int, read: int):
        super().__init__(n_streams, read)
        self.norm = needs.norm.build(needs.d_model)
        self.dynamic = Linear(needs.d_model, n_streams + 2, "mixing", std=0.0, per_token=n_streams)
        self.scale_of_b = nn.Parameter(torch.full((1,), SCALE))
        self.scale_of_a = nn.Parameter(torch.full((1,), SCALE))

    def forward(self, stream_BTND: Tensor) -> Weights:
        change = self.dynamic(self.norm(stream_BTND)).tanh()
        scale = torch.cat([self.scale_of_b, self.scale_of_a.expand(change.shape[-1] - 1)])
        return take_apart(self.static + scale * change)


def take_apart(rows_BTNX: Tensor) -> Weights:
    """Name the columns of B, A_m and A_r, the last turned so that it maps streams to streams."""
    write_BTN, read_BTN, a_r_BTNM = rows_BTNX[..., 0], rows_BTNX[..., 1], rows_BTNX[..., 2:]
    return read_BTN, write_BTN, a_r_BTNM.transpose(-1, -2)
