"""Grouped-query attention: several query heads share a key/value head (arXiv:2305.13245).

`n_kv_heads=n_heads` is multi-head attention (arXiv:1706.03762), `n_kv_heads=1` is multi-query
attention (arXiv:1911.02150). Query head h reads key/value head floor(h * K / H).

B batch, T tokens, S remembered tokens, D d_model, H query heads, K key/value heads, E d_head.
"""

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from gptlab.kernels.attention import attend, visible_keys
from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.attention._cache import KeyValueCache
from gptlab.parts.context import Context
from gptlab.parts.layers import Linear
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.positions import Positions, PositionScheme


class GroupedQuery(Attention):
    """Multi-head, multi-query and grouped-query attention.

    `n_kv_heads`: null means as many as `n_heads`.
    `window`: a token sees this many, itself included (arXiv:2310.06825); null: all before it.
    `qk_norm`: a norm for queries and keys, per head, before rotation (arXiv:2010.04245).
    `bias`: whether the four projections have biases.
    `positions`: this layer's own, such as another base or none; null: the model's.
    """

    n_heads: PositiveInt = 12
    n_kv_heads: PositiveInt | None = None
    window: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    qk_norm: Norm | None = None
    bias: bool = False
    positions: Positions | None = None

    def build(self, needs: Needs, layer: int) -> Mixer:
        n_kv_heads = self.n_kv_heads or self.n_heads
        if needs.d_model % self.n_heads:
            raise ValueError(
                f"model.attention.n_heads={self.n_heads} does not divide "
                f"model.d_model={needs.d_model}"
            )
        if self.n_heads % n_kv_heads:
            raise ValueError(
                f"model.attention.n_kv_heads={n_kv_heads} does not divide "
                f"model.attention.n_heads={self.n_heads}"
            )
        return GroupedQueryAttention(self, n_kv_heads, needs, layer)

    def build_positions(self, needs: Needs, d_head: int) -> PositionScheme:
        """Build the layer's own positions, or give the model's."""
        if self.positions is None:
            needs.positions.check_head(d_head)
            return needs.positions
        scheme = self.positions.build(needs.d_model, needs.context_length)
        if scheme.marks_embeddings():
            raise ValueError(
                f"model.attention.positions={self.positions.variant} marks the token embeddings, "
                "before any layer; choose it as model.positions"
            )
        scheme.check_head(d_head, "model.attention.positions")
        return scheme


class GroupedQueryAttention(Mixer):
    def __init__(self, config: GroupedQuery, n_kv_heads: int, needs: Needs, layer: int):
        super().__init__()
        d_head = needs.d_model // config.n_heads
        positions = config.build_positions(needs, d_head)
        self.n_heads, self.d_head, self.layer = config.n_heads, d_head, layer
        self.window = config.window
        self.query = Linear(needs.d_model, config.n_heads * d_head, "input", config.bias)
        self.key = Linear(needs.d_model, n_kv_heads * d_head, "input", config.bias)
        self.value = Linear(needs.d_model, n_kv_heads * d_head, "input", config.bias)
        self.output = Linear(config.n_heads * d_head, needs.d_model, "output", config.bias)
        self.query_norm = config.qk_norm.build(d_head) if config.qk_norm else nn.Identity()
        self.key_norm = config.qk_norm.build(d_head) if config.qk_norm else nn.Identity()
        self.rotate, self.bias = positions.rotate, positions.bias(config.n_heads)
        self.score_dropout, self.dropout = needs.dropout, nn.Dropout(needs.dropout)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        q_BTHE = self.query(x_BTD).unflatten(-1, (-1, self.d_head))
        k_BTKE = self.key(x_BTD).unflatten(-1, (-1, self.d_head))
        v_BTKE = self.value(x_BTD).unflatten(-1, (-1, self.d_head))
        q_BHTE = self.rotate(self.query_norm(q_BTHE), context).transpose(1, 2)
        k_BKSE = self.rotate(self.key_norm(k_BTKE), context).transpose(1, 2)
        v_BKSE = v_BTKE.transpose(1, 2)
        key_positions_S = None
        if context.caches is not None:
            k_BKSE, v_BKSE, key_positions_S = context.caches[self.layer].append(
                k_BKSE, v_BKSE, context.positions_T
            )
        y_BHTE = attend(
            q_BHTE,
            k_BKSE,
            v_BKSE,
            query_positions_T=context.positions_T,
            key_positions_S=key_positions_S,
            window=self.window,
            bias=self.bias,
            dropout=self.score_dropout if self.training else 0.0,
        )
        return self.dropout(self.output(y_BHTE.transpose(1, 2).flatten(2)))

    def new_cache(self, capacity: int) -> KeyValueCache:
        if self.window is None or self.window > capacity:
            return KeyValueCache(capacity, is_ring=False)
        return KeyValueCache(self.window, is_ring=True)

    def score_flops(self, T: int) -> float:
        return 4 * self.n_heads * self.d_head * visible_keys(T, self.window)
