"""Normalized attention: the cosines of queries and keys, with a learned gain per number (nGPT).

nGPT (arXiv:2410.01131): queries and keys are rotated, then brought to length 1, then multiplied by
s_qk; scores are multiplied by sqrt(d_head), since cosines are small. The published code orders it
so; others put the gain before the rotation. Every head has gains of its own. Queries and keys share
them if `n_kv_heads=n_heads`, as in the paper; grouped heads have s_q and s_k.

B batch, T tokens, H query or key/value heads, E d_head.
"""

import math
from collections.abc import Callable

from pydantic import PositiveFloat
from torch import Tensor, nn

from gptlab.parts.attention.grouped_query import GroupedQuery, GroupedQueryAttention
from gptlab.parts.layers import Scale
from gptlab.parts.needs import Needs
from gptlab.parts.norm import Norm
from gptlab.parts.norm.l2 import L2


class Normalized(GroupedQuery):
    """As grouped_query, with these of its own.

    `scale`: null means sqrt(d_head). `qk_norm` must be there.
    `s_qk_start`: where the gains start. `s_qk_scale`: of their steps, see `layers.Scale`; null:
    d_model^-0.5.
    """

    qk_norm: Norm | None = L2()
    qk_norm_after_rotation: bool = True
    s_qk_start: PositiveFloat = 1.0
    s_qk_scale: PositiveFloat | None = None

    def build(self, needs: Needs, layer: int) -> GroupedQueryAttention:
        if self.qk_norm is None:
            raise ValueError(
                "model.attention.qk_norm=null leaves nothing normalized in attention=normalized; "
                "name a norm such as l2, or take model.attention=grouped_query"
            )
        mixer = super().build(needs, layer)
        H, E, scale = self.n_heads, mixer.d_head, self.s_qk_scale or needs.d_model**-0.5
        K = self.n_kv_heads or H
        gain_HE = Scale((H, E), self.s_qk_start, scale)
        mixer.scale = self.scale or math.sqrt(E)
        mixer.query_norm = NormWithGain(mixer.query_norm, gain_HE)
        if not self.share_kv:  # then keys come with the gains of the layer that made them
            key_gain = gain_HE.forward if K == H else Scale((K, E), self.s_qk_start, scale)
            mixer.key_norm = NormWithGain(mixer.key_norm, key_gain)
        mixer.mark = mixer.mark.one_by_one  # of other modules
        return mixer


class NormWithGain(nn.Module):
    """gain: a module of its own, or a function that gives that of another."""

    def __init__(self, norm: nn.Module, gain: Callable[[], Tensor]):
        super().__init__()
        self.norm, self.gain = norm, gain

    def forward(self, x_BTHE: Tensor) -> Tensor:
        return self.gain().to(x_BTHE.dtype) * self.norm(x_BTHE)
