"""A block: attention and MLP as branches of the residual stream."""

from typing import TYPE_CHECKING, Any

from torch import nn

from gptlab.parts.context import Context
from gptlab.parts.needs import Needs

if TYPE_CHECKING:
    from gptlab.model.gpt import Model


class Block(nn.Module):
    """One layer."""

    def __init__(self, model: "Model", needs: Needs, layer: int):
        super().__init__()
        self.attention = model.attention.build(needs, layer)
        self.mlp = model.mlp.build(needs, layer)
        self.residual = model.residual.build(needs, layer, n_branches=2)

    def forward(self, stream: Any, context: Context) -> Any:
        return self.residual(
            stream, lambda x: self.attention(x, context), lambda x: self.mlp(x, context)
        )
