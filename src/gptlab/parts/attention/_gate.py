"""A gate on what attention has read: y * sigmoid(W x), with x what the layer reads.

Gated attention, arXiv:2505.06708. At initialization a gate is open by half.

B batch, T tokens, D d_model, H query heads, E d_head.
"""

from torch import Tensor, nn

from gptlab.parts.layers import Linear


class Gate(nn.Module):
    """`width`: E for a gate on every number, 1 for one on every head."""

    def __init__(self, d_model: int, n_heads: int, width: int, bias: bool):
        super().__init__()
        self.n_heads = n_heads
        self.matrix = Linear(d_model, n_heads * width, "input", bias)

    def forward(self, y_BTHE: Tensor, x_BTD: Tensor) -> Tensor:
        return y_BTHE * self.matrix(x_BTD).unflatten(-1, (self.n_heads, -1)).sigmoid()


class AlwaysOpen(nn.Module):
    def forward(self, y_BTHE: Tensor, x_BTD: Tensor) -> Tensor:
        return y_BTHE
