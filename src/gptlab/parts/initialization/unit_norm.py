"""Unit norm: every matrix has vectors of length 1, at the start and after every step (nGPT).

Along the embedding axis (arXiv:2410.01131): the rows of a matrix that reads the stream, of an
embedding and of the head, the columns of an output, which writes to it. What mixes streams or
chooses experts is left as it is.
"""

import torch
from torch import nn
from torch.nn.functional import normalize

from gptlab.parts.initialization import Initialization, Matrix
from gptlab.parts.layers import Embedding, Linear

AXIS = {"embedding": -1, "position": -1, "input": -1, "head": -1, "output": -2}


class UnitNorm(Initialization):
    """Has no settings. Biases are refused: nothing holds them."""

    def std(self, matrix: Matrix) -> float:
        return matrix.fan_in**-0.5

    def assign(self, model: nn.Module, blocks: nn.ModuleList, d_model: int) -> None:
        super().assign(model, blocks, d_model)
        for name, module in model.named_modules():
            if isinstance(module, Linear) and module.role in AXIS and module.bias is not None:
                raise ValueError(
                    "model.initialization=unit_norm holds matrices at length 1 and has no hold of "
                    f"biases such as {name}.bias; set bias=false, or take another initialization"
                )

    @torch.no_grad()
    def hold(self, model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, Linear | Embedding) and module.role in AXIS:
                weight = module.weight
                weight.copy_(normalize(weight, dim=AXIS[module.role]))
