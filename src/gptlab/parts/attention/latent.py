"""Multi-head latent attention: keys and values of all heads are read out of one small vector.

DeepSeek-V2, arXiv:2405.04434: a token becomes c = norm(W_c x), and head h reads the keys
[W_k^h c | rotate(W_r x)] and the values W_v^h c; the rotated part, the same for all heads, carries
the positions. Queries [nope | rope] may come out of a latent of their own. A cache holds c after
its norm and the rotated part, nothing else. Reading from it, W_k goes over to the query,
q W_k c = (W_k^T q) c, and W_v comes after the weights: every head then attends to c itself, as
multi-query attention does, and no key or value is made anew ("absorbed"). Tokens that read only
one another are cheaper with the keys and values written out ("expanded"); one token
that reads 1,000 others takes 17 times as long with it on a CPU (`benchmarks/latent.py`).

B batch, T tokens, S remembered tokens, D d_model, H heads, C d_latent, N d_nope, R d_rope,
V d_value, M = C + R what is remembered of a token.
"""

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from gptlab.kernels.attention import attend, visible_keys
from gptlab.kernels.places import Places
from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.attention._cache import KeyValueCache
from gptlab.parts.attention._positions import build_positions
from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear
from gptlab.parts.needs import Needs
from gptlab.parts.positions import Positions

Width = Annotated[int, Field(gt=0, le=100_000)]


class Latent(Attention):
    """Latents are normed by the model's norm. Widths of null are in the paper's proportions.

    `d_latent`: what keys and values are read out of; null means 4 * d_nope.
    `d_query_latent`: what queries are read out of; null: the stream itself (DeepSeek-V2-Lite).
    `d_nope`: a head's queries and keys without positions; null means d_model / n_heads.
    `d_rope`: a head's queries with positions, and the shared key; null means half of d_nope,
    rounded up to an even number.
    `d_value`: a head's values; null means d_nope.
    `window`: a token sees this many, itself included; null: all before it.
    `scale`: multiplies the scores; null means (d_nope + d_rope)^-0.5. DeepSeek's YaRN has it times
    (0.1 ln(factor) + 1)^2, and a `magnitude` of 1 in the scaling.
    `positions`: this layer's own, such as another base or none; null: the model's.
    """

    n_heads: PositiveInt = 12
    d_latent: Width | None = None
    d_query_latent: Width | None = None
    d_nope: Width | None = None
    d_rope: Width | None = None
    d_value: Width | None = None
    window: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    scale: PositiveFloat | None = None
    positions: Positions | None = None

    def build(self, needs: Needs, layer: int) -> Mixer:
        if self.d_nope is None and needs.d_model % self.n_heads:
            raise ValueError(
                f"model.attention.n_heads={self.n_heads} does not divide "
                f"model.d_model={needs.d_model}; change one of them, or set d_nope"
            )
        return LatentAttention(self, needs, layer)

    def widths(self, d_model: int) -> tuple[int, int, int, int]:
        """Give d_latent, d_nope, d_rope and d_value."""
        N = self.d_nope or d_model // self.n_heads
        R = self.d_rope or 2 * -(-N // 4)
        return self.d_latent or 4 * N, N, R, self.d_value or N


class LatentAttention(Mixer):
    def __init__(self, config: Latent, needs: Needs, layer: int):
        super().__init__()
        D, H = needs.d_model, config.n_heads
        C, N, R, V = config.widths(D)
        positions = build_positions(config.positions, needs, R)
        self.n_heads, self.layer, self.window = H, layer, config.window
        self.d_latent, self.d_nope, self.d_rope, self.d_value = C, N, R, V
        self.scale = config.scale or (N + R) ** -0.5
        self.query = build_query(config.d_query_latent, needs, H * (N + R))
        self.latent = nn.Sequential(Linear(D, C, "input"), needs.norm.build(C))
        self.shared_key = Linear(D, R, "input")
        self.key = Linear(C, H * N, "input")
        self.value = Linear(C, H * V, "input")
        self.output = Linear(H * V, D, "output")
        self.rotate, self.bias = positions.rotate, positions.bias(H)
        self.score_dropout, self.dropout = needs.dropout, Dropout(needs.dropout)
        self.attend = attend

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        q_BTHE = self.query(x_BTD).unflatten(-1, (self.n_heads, -1))
        nope_BTHN, rope_BTHR = q_BTHE.split([self.d_nope, self.d_rope], dim=-1)
        rope_BTHR = self.rotate(rope_BTHR, context)
        key_BTR = self.rotate(self.shared_key(x_BTD)[:, :, None], context)[:, :, 0]
        memory_B1SM = torch.cat([self.latent(x_BTD), key_BTR], dim=-1)[:, None]
        keys = None
        if context.caches is not None:
            nothing_B1S0 = memory_B1SM[..., :0]  # values are the latents, remembered already
            memory_B1SM, _, keys = context.caches[self.layer].append(
                memory_B1SM, nothing_B1S0, context.places
            )
        read = self.expanded if keys is None else self.absorbed
        y_BTHV = read(nope_BTHN, rope_BTHR, memory_B1SM, context.places, keys)
        return self.dropout(self.output(y_BTHV.flatten(2)))

    def expanded(
        self,
        nope_BTHN: Tensor,
        rope_BTHR: Tensor,
        memory_B1SM: Tensor,
        queries: Places,
        keys: Places | None,
    ) -> Tensor:
        """Write out the keys and values of every head, and read those."""
        latent_BSC, key_BSR = memory_B1SM[:, 0].split([self.d_latent, self.d_rope], dim=-1)
        nope_BSHN = self.key(latent_BSC).unflatten(-1, (self.n_heads, -1))
        v_BSHV = self.value(latent_BSC).unflatten(-1, (self.n_heads, -1))
        rope_BSHR = key_BSR[:, :, None].expand(-1, -1, self.n_heads, -1)
        q_BTHE = torch.cat([nope_BTHN, rope_BTHR], dim=-1)
        k_BSHE = torch.cat([nope_BSHN, rope_BSHR], dim=-1)
        return self.attended(q_BTHE, k_BSHE.transpose(1, 2), v_BSHV.transpose(1, 2), queries, keys)

    def absorbed(
        self,
        nope_BTHN: Tensor,
        rope_BTHR: Tensor,
        memory_B1SM: Tensor,
        queries: Places,
        keys: Places | None,
    ) -> Tensor:
        """Take queries into the space of the latents, and values out of what was read there."""
        key_HNC = self.key.weight.unflatten(0, (self.n_heads, -1))
        value_HVC = self.value.weight.unflatten(0, (self.n_heads, -1))
        latent_BTHC = torch.einsum("bthn,hnc->bthc", nope_BTHN, key_HNC)
        q_BTHM = torch.cat([latent_BTHC, rope_BTHR], dim=-1)
        y_BTHM = self.attended(q_BTHM, memory_B1SM, memory_B1SM, queries, keys)
        return torch.einsum("bthc,hvc->bthv", y_BTHM[..., : self.d_latent], value_HVC)

    def attended(
        self, q_BTHE: Tensor, k_BKSE: Tensor, v_BKSV: Tensor, queries: Places, keys: Places | None
    ) -> Tensor:
        y_BHTV = self.attend(
            q_BTHE.transpose(1, 2),
            k_BKSE,
            v_BKSV,
            queries=queries,
            keys=keys,
            window=self.window,
            bias=self.bias,
            dropout=self.score_dropout if self.training else 0.0,
            scale=self.scale,
        )
        return y_BHTV.transpose(1, 2)

    def new_cache(self, capacity: int) -> KeyValueCache:
        return KeyValueCache(self.window, capacity)

    def score_flops(self, T: int) -> float:
        """Of the expanded form, in which texts are learned."""
        width = self.d_nope + self.d_rope + self.d_value
        return 2 * self.n_heads * width * visible_keys(T, self.window)


def build_query(d_latent: int | None, needs: Needs, width: int) -> nn.Module:
    if d_latent is None:
        return Linear(needs.d_model, width, "input")
    return nn.Sequential(
        Linear(needs.d_model, d_latent, "input"),
        needs.norm.build(d_latent),
        Linear(d_latent, width, "input"),
    )
