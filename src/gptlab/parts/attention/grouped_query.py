"""Grouped-query attention: several query heads share a key/value head (arXiv:2305.13245).

`n_kv_heads=n_heads` is multi-head attention (arXiv:1706.03762), `n_kv_heads=1` is multi-query
attention (arXiv:1911.02150). Query head h reads key/value head floor(h * K / H).

B batch, T tokens, S remembered tokens, D d_model, H query heads, K key/value heads, E d_head.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from gptlab.kernels.attention import attend, visible_keys
from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.attention._cache import KeyValueCache
from gptlab.parts.attention._gate import AlwaysOpen, Gate
from gptlab.parts.attention._positions import build_positions
from gptlab.parts.attention._query_key_norm import (
    AtOnce,
    OneByOne,
    build_mark,
    build_norm,
    check_norm,
)
from gptlab.parts.attention._sharing import KeysAndValues, Kind, find_source, offer
from gptlab.parts.attention._value_residual import build_value_mixing
from gptlab.parts.context import Context
from gptlab.parts.layers import Dropout, Linear, side_by_side
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.positions import Positions


class GroupedQuery(Attention):
    """Multi-head, multi-query and grouped-query attention.

    `n_kv_heads`: null means as many as `n_heads`. `d_head`: null means d_model / n_heads.
    `window`: a token sees this many, itself included (arXiv:2310.06825); null: all before it.
    `chunk`: a token sees those before it in the same chunk of this many (Llama 4); null: no chunks.
    `scale`: multiplies the scores; null means d_head^-0.5.
    `softcap`: bounds the scores, softcap * tanh(score / softcap) (Gemma 2, arXiv:2408.00118).
    `sinks`: a learned logit per head that takes weight and gives nothing (GPT-OSS).
    `qk_norm`: a norm for queries and keys (arXiv:2010.04245), over each `head` or over the `width`
    of all of them (OLMo 2, arXiv:2501.00656), before the rotation or after.
    `gate`: multiplies what is read by a sigmoid of the input (arXiv:2505.06708), `elementwise` or
    one per `head`.
    `value_residual`: mix in the first layer's values, with learned weights (arXiv:2410.17897).
    `share_kv`: read the keys and values of the nearest earlier layer that makes its own, as many
    and as wide, with the same window, chunk and positions (arXiv:2405.12981).
    `bias`: whether the projections have biases; `qkv`: all but the last one (Qwen 2).
    `positions`: this layer's own, such as another base or none; null: the model's.
    """

    n_heads: PositiveInt = 12
    n_kv_heads: PositiveInt | None = None
    d_head: Annotated[int, Field(gt=0, le=100_000)] | None = None
    window: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    chunk: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    scale: PositiveFloat | None = None
    softcap: PositiveFloat | None = None
    sinks: bool = False
    qk_norm: Norm | None = None
    qk_norm_over: Literal["head", "width"] = "head"
    qk_norm_after_rotation: bool = False
    gate: Literal["elementwise", "head"] | None = None
    value_residual: bool = False
    share_kv: bool = False
    bias: bool | Literal["qkv"] = False
    positions: Positions | None = None

    def build(self, needs: Needs, layer: int) -> "GroupedQueryAttention":
        n_kv_heads = self.n_kv_heads or self.n_heads
        if self.d_head is None and needs.d_model % self.n_heads:
            raise ValueError(
                f"model.attention.n_heads={self.n_heads} does not divide "
                f"model.d_model={needs.d_model}; change one of them, or set d_head"
            )
        if self.n_heads % n_kv_heads:
            raise ValueError(
                f"model.attention.n_kv_heads={n_kv_heads} does not divide "
                f"model.attention.n_heads={self.n_heads}"
            )
        if self.window is not None and self.chunk is not None:
            raise ValueError(
                f"model.attention.window={self.window} and chunk={self.chunk} both say how far a "
                "token sees; set one of them to null"
            )
        if self.share_kv and self.value_residual:
            raise ValueError(
                "model.attention.value_residual=true mixes into a layer's own values, of which "
                "share_kv=true leaves none; set one of them to false"
            )
        check_norm(self.qk_norm, self.qk_norm_over, self.qk_norm_after_rotation)
        kind = SharedKeysAttention if self.share_kv else GroupedQueryAttention
        return kind(self, n_kv_heads, needs, layer)

    def build_gate(self, d_model: int, d_head: int) -> nn.Module:
        """Build what maps (y_BTHE, x_BTD) to y_BTHE."""
        if self.gate is None:
            return AlwaysOpen()
        width = {"elementwise": d_head, "head": 1}[self.gate]
        return Gate(d_model, self.n_heads, width, bool(self.bias))


class GroupedQueryAttention(Mixer):
    """A layer with keys and values of its own, which later layers may read too."""

    def __init__(self, config: GroupedQuery, n_kv_heads: int, needs: Needs, layer: int):
        super().__init__()
        D, H, E = needs.d_model, config.n_heads, config.d_head or needs.d_model // config.n_heads
        positions = build_positions(config.positions, needs, E, config.qk_norm_after_rotation)
        self.n_heads, self.d_head, self.layer = H, E, layer
        self.window, self.chunk = config.window, config.chunk
        self.scale, self.softcap = config.scale, config.softcap
        self.query = Linear(D, H * E, "input", bool(config.bias))
        kind = Kind(n_kv_heads, E, config.window, config.chunk, config.positions)
        self.build_keys_and_values(config, needs, kind)
        self.output = Linear(H * E, D, "output", config.bias is True)
        self.query_norm = build_norm(config.qk_norm, config.qk_norm_over, H, E)
        self.mark = build_mark(self.norms(), positions, E, config.qk_norm_after_rotation)
        self.bias = positions.bias(H)
        self.sinks_H = nn.Parameter(torch.zeros(H)) if config.sinks else None
        self.gate = config.build_gate(D, E)
        self.score_dropout, self.dropout = needs.dropout, Dropout(needs.dropout)
        self.attend = attend

    def build_keys_and_values(self, config: GroupedQuery, needs: Needs, kind: Kind) -> None:
        D, K, E = needs.d_model, kind.n_kv_heads, kind.d_head
        self.key = Linear(D, K * E, "input", bool(config.bias))
        self.value = Linear(D, K * E, "input", bool(config.bias))
        self.key_norm = build_norm(config.qk_norm, config.qk_norm_over, K, E)
        self.mix_values = build_value_mixing(needs, self.layer, K, E, config.value_residual)
        self.hand_on = offer(needs, self.layer, kind)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        mark, norms, layers = self.mark_for(x_BTD, context), self.norms(), self.projections()
        n = len(norms)
        layers = [*mark.projections(layers[:n], self.d_head), *layers[n:]]
        made = [y.unflatten(-1, (-1, self.d_head)) for y in side_by_side(x_BTD, *layers)]
        q_BHTE, *k_BKTE = mark(made[:n], norms, context)
        k_BKSE, v_BKSE, keys = self.keys_and_values([*k_BKTE, *made[n:]], context)
        y_BHTE = self.attend(
            q_BHTE,
            k_BKSE,
            v_BKSE,
            queries=context.places,
            keys=keys,
            window=self.window,
            chunk=self.chunk,
            bias=self.bias,
            dropout=self.score_dropout if self.training else 0.0,
            scale=self.scale,
            softcap=self.softcap,
            sinks_H=self.sinks_H,
        )
        y_BTHE = self.gate(y_BHTE.transpose(1, 2), x_BTD)
        return self.dropout(self.output(y_BTHE.flatten(2)))

    def mark_for(self, x_BTD: Tensor, context: Context) -> OneByOne | AtOnce:
        """Choose for a pass: layers with other norms read keys in the usual order only."""
        mark = self.mark.one_by_one if self.hand_on.is_wanted else self.mark
        return mark.for_pass(x_BTD, context)

    def projections(self) -> list[Linear]:
        """List what is made of the layer's input: queries, and keys and values if of its own."""
        return [self.query, self.key, self.value]

    def norms(self) -> list[nn.Module]:
        """List the norms of queries, and of keys if of its own."""
        return [self.query_norm, self.key_norm]

    def keys_and_values(self, made: Sequence[Tensor], context: Context) -> KeysAndValues:
        """Take those of new tokens, and add what a cache remembers of earlier ones."""
        k_BKSE, v_BTKE = made
        v_BKSE = self.mix_values(v_BTKE, context).transpose(1, 2)
        if context.caches is None:
            return self.hand_on((k_BKSE, v_BKSE, None), context)
        cache = context.caches[self.layer]
        return self.hand_on(cache.append(k_BKSE, v_BKSE, context.places), context)

    def new_cache(self, capacity: int) -> Any:
        return KeyValueCache(self.window or self.chunk, capacity)

    def score_flops(self, T: int) -> float:
        return 4 * self.n_heads * self.d_head * visible_keys(T, self.window, self.chunk)


class SharedKeysAttention(GroupedQueryAttention):
    """A layer that reads the keys and values of an earlier one, and remembers none itself."""

    def build_keys_and_values(self, config: GroupedQuery, needs: Needs, kind: Kind) -> None:
        self.source = find_source(needs, self.layer, kind)

    def mark_for(self, x_BTD: Tensor, context: Context) -> OneByOne | AtOnce:
        return self.mark.one_by_one

    def projections(self) -> list[Linear]:
        return [self.query]

    def norms(self) -> list[nn.Module]:
        return [self.query_norm]

    def keys_and_values(self, made: Sequence[Tensor], context: Context) -> KeysAndValues:
        return context.keys_and_values[self.source]

    def new_cache(self, capacity: int) -> None:
        return None
