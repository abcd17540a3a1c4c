"""Value residual: later layers mix the values of the first one into their own (arXiv:2410.17897).

V_n <- own * V_n + first * V_1, both learned, a pair per layer, 0.5 each at the start. V_1 is what
the first layer's value projection gives. Caches hold mixed values, so decoding needs no more.

B batch, T tokens, K key/value heads, E d_head.
"""

import torch
from torch import Tensor, nn

from gptlab.parts.context import Context
from gptlab.parts.needs import Needs


def build_value_mixing(needs: Needs, layer: int, K: int, E: int, wanted: bool) -> nn.Module:
    """Build what maps (v_BTKE, context) to v_BTKE. Raises ValueError for nothing to mix in."""
    if not wanted:
        return OwnValues()
    if needs.n_layers == 1:
        raise ValueError(
            "model.attention.value_residual=true mixes the first layer's values into later ones, "
            "of which model.n_layers=1 has none; take more layers or set it to false"
        )
    if layer == 0:
        needs.offered["first_values"] = (K, E)
        return FirstValues()
    if "first_values" not in needs.offered:
        raise ValueError(
            f"model.attention.value_residual=true in layer {layer}, but the first layer "
            "shares no values; set value_residual=true in its attention too"
        )
    if needs.offered["first_values"] != (K, E):
        first_K, first_E = needs.offered["first_values"]
        raise ValueError(
            f"model.attention.value_residual=true mixes n_kv_heads={K} of d_head={E} in layer "
            f"{layer} with n_kv_heads={first_K} of d_head={first_E} in the first; make them equal"
        )
    needs.used.add("first_values")
    return ValueResidual()


class OwnValues(nn.Module):
    def forward(self, v_BTKE: Tensor, context: Context) -> Tensor:
        return v_BTKE


class FirstValues(nn.Module):
    """Hand the values to later layers, and leave them as they are."""

    def forward(self, v_BTKE: Tensor, context: Context) -> Tensor:
        context.first_values_BTKE = v_BTKE
        return v_BTKE


class ValueResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.tensor(0.5))
        self.first = nn.Parameter(torch.tensor(0.5))

    def forward(self, v_BTKE: Tensor, context: Context) -> Tensor:
        assert context.first_values_BTKE is not None
        return self.own * v_BTKE + self.first * context.first_values_BTKE
