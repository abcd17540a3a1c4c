"""Linear attention: weights without a softmax, so that a state can add them up (arXiv:2006.16236).

    y_t = sum_s w_ts v_s / sum_s w_ts,    w_ts = phi(q_t) phi(k_s),    phi(x) = elu(x) + 1

over all s up to t. Since q_t stands outside of the sum over s, a matrix per head remembers all
of the past; time is O(T), and a text of any length takes the same memory. It takes no positions:
what is far counts as much as what is near.

B batch, T tokens, D d_model, H heads, E d_head.
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad

from gptlab.kernels.linear_attention import linear_attention
from gptlab.kernels.precision import precise
from gptlab.parts.attention import Attention
from gptlab.parts.attention._recurrent import RecurrentMixer
from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear
from gptlab.parts.needs import Needs

SMALLEST = 1e-30  # a sum of weights: products of features may vanish in float32


class LinearAttention(Attention):
    """`feature_map`: phi; `identity` has negative weights too.

    `divide`: by the weights' `sum`, as above, or by the model's `norm` over what each head reads,
    whose gradients are bounded (TransNormer, arXiv:2210.10340).
    """

    n_heads: PositiveInt = 12
    feature_map: Literal["elu", "identity"] = "elu"
    divide: Literal["sum", "norm"] = "sum"

    def build(self, needs: Needs, layer: int) -> RecurrentMixer:
        if needs.d_model % self.n_heads:
            raise ValueError(
                f"model.attention.n_heads={self.n_heads} does not divide "
                f"model.d_model={needs.d_model}; change one of them"
            )
        if self.feature_map == "identity" and self.divide == "sum":
            raise ValueError(
                "model.attention.feature_map=identity has weights of either sign, whose sum "
                "model.attention.divide=sum cannot divide by; take divide=norm"
            )
        return LinearMixer(self, needs, layer)


class LinearMixer(RecurrentMixer):
    def __init__(self, config: LinearAttention, needs: Needs, layer: int):
        super().__init__()
        D, E = needs.d_model, needs.d_model // config.n_heads
        self.layer, self.n_heads, self.d_head = layer, config.n_heads, E
        self.query, self.key, self.value = (Linear(D, D, "input") for _ in range(3))
        self.feature = {"elu": elu_plus_one, "identity": nn.Identity()}[config.feature_map]
        self.ends = DivideBySum() if config.divide == "sum" else Normed(needs.norm.build(E))
        self.output = Linear(D, D, "output")
        self.dropout = Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        cache = self.cache(context)
        q_BHTE, k_BHTE, v_BHTE = (
            matrix(x_BTD).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for matrix in (self.query, self.key, self.value)
        )
        y_BHTF, cache.state_BHKV = linear_attention(
            self.feature(q_BHTE),
            self.feature(k_BHTE),
            self.ends.open(v_BHTE),
            cache.state_BHKV,
            cache.segments(context.documents_BT),
        )
        y_BHTE = self.ends.close(y_BHTF, v_BHTE.dtype)
        return self.dropout(self.output(y_BHTE.transpose(1, 2).flatten(2)))

    def score_flops(self, T: int) -> float:
        """What the state is told and asked, a token at a time; chunks take more."""
        return 4 * self.n_heads * self.d_head * (self.d_head + self.ends.columns)


class DivideBySum(nn.Module):
    """A value of one beside the others adds up the weights."""

    columns = 1

    def open(self, v_BHTE: Tensor) -> Tensor:
        return pad(v_BHTE, (0, 1), value=1.0)

    def close(self, y_BHTF: Tensor, dtype: torch.dtype) -> Tensor:
        sum_BHT1 = y_BHTF[..., -1:].clamp(min=SMALLEST)
        return (y_BHTF[..., :-1] / sum_BHT1).to(dtype)


class Normed(nn.Module):
    columns = 0

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    def open(self, v_BHTE: Tensor) -> Tensor:
        return v_BHTE

    def close(self, y_BHTE: Tensor, dtype: torch.dtype) -> Tensor:
        return self.norm(y_BHTE.to(dtype))


def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, in float32 at least; as exp(x) below zero, where the sum would round to zero."""
    x = precise(x)
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())
