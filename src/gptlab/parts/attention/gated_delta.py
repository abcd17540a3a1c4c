"""Gated DeltaNet: a state of constant size that forgets and corrects itself (arXiv:2412.06464).

Each head keeps a matrix S that maps keys to values. A token lets S decay, then moves what S gives
for its key towards its own value:

    S_t = a_t S_(t-1) + b_t k_t (v_t - (a_t S_(t-1))^T k_t)^T,    y_t = S_t^T q_t / sqrt(d_key)

Queries, keys and values come from a short convolution over the last tokens and SiLU; queries and
keys have length 1. b = sigmoid(W_b x), and a = exp(-A softplus(W_a x + t)), learned A and t per
head. What a head reads is normed, and multiplied by SiLU(W_z x), as in Qwen3-Next. It takes no
positions, and a text of any length the same memory; beside three such layers one of softmax
attention is usual (`alternating`).

B batch, T tokens, D d_model, G key heads, H value heads, K d_key, V d_value, C channels.
"""

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from gptlab.kernels.delta_rule import delta_rule
from gptlab.kernels.precision import precise
from gptlab.parts.attention import Attention
from gptlab.parts.attention._recurrent import RecurrentCache, RecurrentMixer
from gptlab.parts.attention._short_convolution import ShortConvolution
from gptlab.parts.context import Context
from gptlab.parts.layers import Drawn, Dropout, Linear
from gptlab.parts.needs import Needs

Width = Annotated[int, Field(gt=0, le=100_000)]
EPS = 1e-6  # added to the squared length of queries and keys, as Qwen3-Next has it


class GatedDelta(Attention):
    """The heads' norm is the model's (RMSNorm in the paper).

    `n_heads`: heads of values, each with a state of its own.
    `n_key_heads`: heads of queries and keys, shared as in grouped_query; null: n_heads.
    `d_key`: null means d_model / n_key_heads. `d_value`: null means 2 d_model / n_heads.
    `convolution`: how many tokens the convolution sees, the newest included.
    `decay`: false never forgets, as the first DeltaNet (arXiv:2406.06484).
    `negative_eigenvalues`: b up to 2, so that a token can turn S around (arXiv:2411.12537).
    """

    n_heads: PositiveInt = 6
    n_key_heads: PositiveInt | None = None
    d_key: Width | None = None
    d_value: Width | None = None
    convolution: Annotated[int, Field(gt=0, le=1_000)] = 4
    decay: bool = True
    negative_eigenvalues: bool = False

    def build(self, needs: Needs, layer: int) -> RecurrentMixer:
        n_key_heads = self.n_key_heads or self.n_heads
        if self.n_heads % n_key_heads:
            raise ValueError(
                f"model.attention.n_key_heads={n_key_heads} does not divide "
                f"model.attention.n_heads={self.n_heads}"
            )
        K = self.d_key or _width_of(needs.d_model, 1, "n_key_heads", n_key_heads, "d_key")
        V = self.d_value or _width_of(needs.d_model, 2, "n_heads", self.n_heads, "d_value")
        return GatedDeltaNet(self, needs, layer, n_key_heads, K, V)


def _width_of(d_model: int, times: int, name: str, n_heads: int, wanted: str) -> int:
    if times * d_model % n_heads:
        width = f"model.d_model={d_model}"
        raise ValueError(
            f"model.attention.{name}={n_heads} does not divide "
            f"{width if times == 1 else f'{times} times {width}'}; change one of them, or set "
            f"{wanted}"
        )
    return times * d_model // n_heads


class GatedDeltaNet(RecurrentMixer):
    def __init__(self, config: GatedDelta, needs: Needs, layer: int, G: int, K: int, V: int):
        super().__init__()
        D, H = needs.d_model, config.n_heads
        self.layer, self.n_heads, self.d_key, self.d_value = layer, H, K, V
        self.query = Linear(D, G * K, "input")
        self.key = Linear(D, G * K, "input")
        self.value = Linear(D, H * V, "input")
        self.convolution = ShortConvolution(2 * G * K + H * V, config.convolution)
        self.rate = Linear(D, H, "input")
        self.highest_rate = 2.0 if config.negative_eigenvalues else 1.0
        self.decay = Decay(D, H) if config.decay else NoDecay()
        self.norm = needs.norm.build(V)
        self.gate = Linear(D, H * V, "input")
        self.output = Linear(H * V, D, "output")
        self.dropout = Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        cache = self.cache(context)
        segments_BT = cache.segments(context.documents_BT)
        q_BHTK, k_BHTK, v_BHTV = self.convolved(x_BTD, cache, segments_BT)
        y_BHTV, cache.state_BHKV = delta_rule(
            of_length_one(q_BHTK) * self.d_key**-0.5,
            of_length_one(k_BHTK),
            v_BHTV,
            self.decay(x_BTD).transpose(1, 2),
            self.highest_rate * precise(self.rate(x_BTD)).sigmoid().transpose(1, 2),
            cache.state_BHKV,
            segments_BT,
        )
        y_BTC = self.norm(y_BHTV.transpose(1, 2)).flatten(2) * silu(self.gate(x_BTD))
        return self.dropout(self.output(y_BTC))

    def convolved(
        self, x_BTD: Tensor, cache: RecurrentCache, segments_BT: Tensor | None
    ) -> list[Tensor]:
        """Give queries, keys and values, each with all heads."""
        parts = [self.query(x_BTD), self.key(x_BTD), self.value(x_BTD)]
        mixed_BTC = self.convolution(torch.cat(parts, dim=-1), cache, segments_BT)
        widths = (self.d_key, self.d_key, self.d_value)
        return [
            self.all_heads(part_BTC.unflatten(-1, (-1, width)).transpose(1, 2))
            for part_BTC, width in zip(
                mixed_BTC.split([part.shape[-1] for part in parts], dim=-1), widths, strict=True
            )
        ]

    def all_heads(self, x_BGTE: Tensor) -> Tensor:
        """Repeat each head for the value heads that share it."""
        shared = self.n_heads // x_BGTE.shape[1]
        return x_BGTE.unsqueeze(2).expand(-1, -1, shared, -1, -1).flatten(1, 2)

    def score_flops(self, T: int) -> float:
        """What S is asked, told and asked again; chunks take more, and save memory traffic."""
        return 6 * self.n_heads * self.d_key * self.d_value


class Decay(Drawn):
    """log a. `weight` is log A, with A uniform in (0.01, 16) at first, while t is 1.

    The paper's own code starts t lower, so that all heads remember for long: slower to learn in
    runs of a few hundred steps.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_heads))
        self.time = Linear(d_model, n_heads, "input")
        self.bias = nn.Parameter(torch.ones(n_heads))

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.empty(self.weight.shape).uniform_(0.01, 16, generator=generator).log()

    def forward(self, x_BTD: Tensor) -> Tensor:
        time_BTH = softplus(precise(self.time(x_BTD)) + self.bias)
        return -precise(self.weight).exp() * time_BTH


class NoDecay(nn.Module):
    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.new_zeros(1, x_BTD.shape[1], 1)


def of_length_one(x: Tensor) -> Tensor:
    x = precise(x)
    return x * (x.square().sum(-1, keepdim=True) + EPS).rsqrt()
