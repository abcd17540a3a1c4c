"""Weights in eight bits, for generation on a CPU: a quarter of float32's bytes to read per token.

Each output of a `Linear` has a scale, w = scale * integer in -127..127; nothing else is rounded but
a product's input, to bfloat16. Roles `mixing` and `router`, small and decisive, stay as they are.
So do inputs of another width than a multiple of 32: torch's kernel reads beyond such (2.13).

I inputs, O outputs.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gptlab.model.gpt import GPT
from gptlab.parts.head.tied import TiedHead
from gptlab.parts.layers import Linear

PAYS_FROM = 20_000_000  # parameters: smaller models stand in the processor's caches anyway
FEW_ROWS = 16  # up to here torch's kernel is faster than writing the weights out in bfloat16
WIDTHS = 32  # inputs come in multiples of this
ROLES = ("input", "output", "head")


class Int8Linear(nn.Module):
    """The product of a `Linear`, from weights in eight bits."""

    integers_OI: Tensor
    scale_O: Tensor
    bias_O: Tensor | None

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None):
        super().__init__()
        self.out_features = len(weight_OI)
        scale_O = weight_OI.float().abs().amax(dim=1).clamp(min=1e-12) / 127
        rounded_OI = (weight_OI.float() / scale_O[:, None]).round()
        self.register_buffer("integers_OI", rounded_OI.to(torch.int8))
        self.register_buffer("scale_O", scale_O.to(torch.bfloat16))
        self.register_buffer("bias_O", None if bias_O is None else bias_O.detach())

    @property
    def weight(self) -> Tensor:
        """What the integers stand for, written out."""
        return self.integers_OI.float() * self.scale_O[:, None].float()

    def forward(self, x: Tensor) -> Tensor:
        x_NI = x.flatten(0, -2).to(torch.bfloat16)
        if len(x_NI) <= FEW_ROWS:
            y_NO = torch.ops.aten._weight_int8pack_mm(x_NI, self.integers_OI, self.scale_O)
        else:
            y_NO = linear(x_NI, self.weight.to(torch.bfloat16))
        y = y_NO.to(x.dtype).unflatten(0, x.shape[:-1])
        return y if self.bias_O is None else y + self.bias_O


def quantize(model: GPT) -> None:
    """Put every product of layers and head into eight bits, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear) and child.role in ROLES and fits(child.weight):
                setattr(module, name, Int8Linear(child.weight, child.bias))
    if isinstance(model.head, TiedHead) and fits(model.embedding.weight):
        matrix = Int8Linear(model.embedding.weight, None)

        def scores(x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
            return matrix(x_BTD)

        model.head.scores = scores


def fits(weight_OI: Tensor) -> bool:
    return weight_OI.shape[1] % WIDTHS == 0
