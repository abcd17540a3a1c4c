"""Manifold-constrained hyper-connections, mHC: streams that mix without growing (arXiv:2512.24880).

    h = H_pre H,    H' = H_post^T F(norm(h)) + H_res H
    H_pre = sigmoid(.), H_post = 2 sigmoid(.), H_res = Sinkhorn(exp(.)) of alpha * (x' phi) + bias

x' holds all streams of a token, divided by their root mean square; phi is one matrix for all three,
alpha has a number for each. Sinkhorn divides columns, then rows by their sums, 20 times: H_res
comes close to doubly stochastic, its rows exactly. The paper leaves the biases open, and zeros
would average the streams at the start, so they are settings here. With the defaults the model
starts as pre-norm, but for alpha = 0.01 times a random phi, which streams need in order to part.

B batch, T tokens, N streams, M streams after mixing, D d_model.
"""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from gptlab.parts.layers import Linear
from gptlab.parts.needs import Needs
from gptlab.parts.residual import Ends, Residual
from gptlab.parts.residual._draw import in_a_row, shortcut
from gptlab.parts.residual._streams import StreamEnds, StreamsResidual, Weights

ALPHA = 0.01  # how much of the dynamic part there is at first
EPS = 1e-20
Bias = Annotated[float, Field(ge=-20, le=20)]


class ManifoldHyperConnections(Residual):
    """The number of streams, and where their weights start.

    `read_bias`: of H_pre; null: as 1/n_streams. `write_bias`: of H_post; 0: as 1. `keep_bias`: of
    H_res's diagonal; at 4 a stream of four keeps 0.95 of itself. More keeps more and learns to mix
    more slowly, since gradients shrink with what is mixed; 0 averages the streams.
    """

    n_streams: Annotated[int, Field(ge=2, le=64)] = 4
    sinkhorn_iterations: Annotated[int, Field(gt=0, le=1000)] = 20
    read_bias: Bias | None = None
    write_bias: Bias = 0.0
    keep_bias: Bias = 4.0

    def build(self, needs: Needs, layer: int, n_branches: int) -> nn.Module:
        weights = [ManifoldWeights(needs, self) for _ in range(n_branches)]
        return StreamsResidual(needs, weights)

    def build_ends(self, needs: Needs) -> Ends:
        return StreamEnds(needs.norm.build(needs.d_model), self.n_streams)

    def draw(self, norm: str, branches: Sequence[str]) -> list[str]:
        around = f"mix {self.n_streams} by Sinkhorn"
        return in_a_row([shortcut(["read", norm, branch, "write"], around) for branch in branches])

    def initial_bias(self) -> Tensor:
        """Give what the biases start from, as (pre N, post N, res N*N)."""
        n = self.n_streams
        read = -math.log(n - 1) if self.read_bias is None else self.read_bias  # logit of 1/n
        pre, post = torch.full((n,), read), torch.full((n,), self.write_bias)
        return torch.cat([pre, post, (self.keep_bias * torch.eye(n)).flatten()])


class ManifoldWeights(nn.Module):
    def __init__(self, needs: Needs, config: ManifoldHyperConnections):
        super().__init__()
        n = config.n_streams
        self.sizes, self.iterations = (n, n, n * n), config.sinkhorn_iterations
        self.phi = Linear(n * needs.d_model, sum(self.sizes), "mixing")
        self.alpha = nn.Parameter(torch.full((3,), ALPHA))
        self.bias = nn.Parameter(config.initial_bias())

    def forward(self, stream_BTND: Tensor) -> Weights:
        narrow = stream_BTND.dtype
        wide = torch.promote_types(narrow, torch.float32)
        x = stream_BTND.flatten(-2).to(wide)
        x = rms_norm(x, x.shape[-1:], eps=EPS).to(self.phi.weight.dtype)
        alpha = torch.cat([a.expand(n) for a, n in zip(self.alpha, self.sizes, strict=True)])
        pre, post, res = (alpha * self.phi(x) + self.bias).to(wide).split(self.sizes, dim=-1)
        res_BTMN = sinkhorn(res.unflatten(-1, (-1, self.sizes[0])), self.iterations)
        return pre.sigmoid().to(narrow), 2 * post.sigmoid().to(narrow), res_BTMN.to(narrow)


def sinkhorn(logits_MN: Tensor, iterations: int) -> Tensor:
    """Bring exp(logits) close to doubly stochastic: columns first, rows last.

    Computed with logarithms, so that no exponential overflows.
    """
    for _ in range(iterations):
        logits_MN = logits_MN.log_softmax(-2).log_softmax(-1)
    return logits_MN.exp()
