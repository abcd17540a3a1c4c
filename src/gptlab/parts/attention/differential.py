"""Differential attention: the difference of two softmax maps cancels what both have in common.

Differential Transformer, arXiv:2410.05258: each head reads y = (map 1 - lambda * map 2) V, with
lambda = exp(q1 k1) - exp(q2 k2) + start, of four learned vectors per layer and a start that grows
with depth, 0.8 - 0.6 exp(-0.3 l) in layer l = 0, 1, ... What a head has read is normed by itself
and multiplied by 1 - start. Half as many heads as usual, each with two maps of d_head dimensions
and values of twice that, take as many parameters as usual.

B batch, T tokens, S remembered tokens, D d_model, H query heads, K key/value heads,
E d_head = D / 2H.
"""

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from gptlab.kernels.attention import attend, visible_keys
from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.attention._cache import KeyValueCache
from gptlab.parts.attention._positions import build_positions
from gptlab.parts.attention._query_key_norm import (
    build_norm,
    check_norm,
    norm_then_rotate,
    rotate_then_norm,
)
from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear, Vector
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.positions import Positions


class Differential(Attention):
    """The heads' norm is the model's (RMSNorm in the paper). Weights have no dropout.

    `n_heads`: heads of two maps each, so half as many as elsewhere.
    `n_kv_heads`: null means as many as `n_heads`.
    `window`: a token sees this many, itself included; null: all before it.
    `qk_norm`: a norm for queries and keys, over each map's (`head`) or over the `width` of all,
    before the rotation or after.
    `positions`: this layer's own, such as another base or none; null: the model's.
    """

    n_heads: PositiveInt = 6
    n_kv_heads: PositiveInt | None = None
    window: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    qk_norm: Norm | None = None
    qk_norm_over: Literal["head", "width"] = "head"
    qk_norm_after_rotation: bool = False
    positions: Positions | None = None

    def build(self, needs: Needs, layer: int) -> Mixer:
        n_kv_heads = self.n_kv_heads or self.n_heads
        if needs.d_model % (2 * self.n_heads):
            raise ValueError(
                f"model.attention.n_heads={self.n_heads} with two maps each does not divide "
                f"model.d_model={needs.d_model}; change one of them"
            )
        if self.n_heads % n_kv_heads:
            raise ValueError(
                f"model.attention.n_kv_heads={n_kv_heads} does not divide "
                f"model.attention.n_heads={self.n_heads}"
            )
        check_norm(self.qk_norm, self.qk_norm_over, self.qk_norm_after_rotation)
        return DifferentialAttention(self, n_kv_heads, needs, layer)


class DifferentialAttention(Mixer):
    def __init__(self, config: Differential, n_kv_heads: int, needs: Needs, layer: int):
        super().__init__()
        D, H, E = needs.d_model, config.n_heads, needs.d_model // config.n_heads // 2
        positions = build_positions(config.positions, needs, E, config.qk_norm_after_rotation)
        self.n_heads, self.d_head, self.layer, self.window = H, E, layer, config.window
        self.query = Linear(D, 2 * H * E, "input")
        self.key = Linear(D, 2 * n_kv_heads * E, "input")
        self.value = Linear(D, 2 * n_kv_heads * E, "input")
        self.output = Linear(2 * H * E, D, "output")
        self.lambda_queries = nn.ModuleList(Vector(E, std=0.1) for _ in range(2))
        self.lambda_keys = nn.ModuleList(Vector(E, std=0.1) for _ in range(2))
        self.start = 0.8 - 0.6 * math.exp(-0.3 * layer)
        self.norm = needs.norm.build(2 * E)
        self.query_norm = build_norm(config.qk_norm, config.qk_norm_over, 2 * H, E)
        self.key_norm = build_norm(config.qk_norm, config.qk_norm_over, 2 * n_kv_heads, E)
        self.mark = rotate_then_norm if config.qk_norm_after_rotation else norm_then_rotate
        self.rotate, self.bias = positions.rotate, positions.bias(H)
        self.dropout, self.attend = Dropout(needs.dropout), attend

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        q_BHTF = self.maps(self.query(x_BTD), self.query_norm, context)  # F: 2 E
        k_BKSF = self.maps(self.key(x_BTD), self.key_norm, context)
        v_BKSF = self.value(x_BTD).unflatten(-1, (-1, 2 * self.d_head)).transpose(1, 2)
        keys = None
        if context.caches is not None:
            k_BKSF, v_BKSF, keys = context.caches[self.layer].append(k_BKSF, v_BKSF, context.places)
        first_BHTF, second_BHTF = (
            self.attend(
                q_BHTE,
                k_BKSE,
                v_BKSF,
                queries=context.places,
                keys=keys,
                window=self.window,
                bias=self.bias,
            )
            for q_BHTE, k_BKSE in zip(q_BHTF.chunk(2, -1), k_BKSF.chunk(2, -1), strict=True)
        )
        y_BHTF = self.norm(first_BHTF - self.weight_of_second() * second_BHTF) * (1 - self.start)
        return self.dropout(self.output(y_BHTF.transpose(1, 2).flatten(2)))

    def maps(self, x_BTX: Tensor, norm: nn.Module, context: Context) -> Tensor:
        """Norm and rotate each map's queries or keys, and lay a head's two maps side by side."""
        x_BTXE = x_BTX.unflatten(-1, (-1, self.d_head))
        x_BTXE = self.mark(x_BTXE, norm, self.rotate, context)
        return x_BTXE.flatten(2).unflatten(-1, (-1, 2 * self.d_head)).transpose(1, 2)

    def weight_of_second(self) -> Tensor:
        """The lambda of the paper."""
        first, second = (
            (q() * k()).sum().exp()
            for q, k in zip(self.lambda_queries, self.lambda_keys, strict=True)
        )
        return first - second + self.start

    def new_cache(self, capacity: int) -> KeyValueCache:
        return KeyValueCache(self.window, capacity)

    def score_flops(self, T: int) -> float:
        """Two maps of scores, and one use of their difference."""
        return 8 * self.n_heads * self.d_head * visible_keys(T, self.window)
