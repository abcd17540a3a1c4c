"""Initialization: the values a model starts from, by the role of each parameter.

Contract: `std(matrix)` is the standard deviation of a matrix with that role, shape and place; 0
means zeros. `hold(model)` is what is done to weights at the start and after every step; by default,
nothing. A rule that goes on after the start has `lr_factor(matrix)` and `logit_factor(d_model)`.
Biases start at zero, norms at the identity, what is `Drawn` as it says itself. Every parameter has
a random stream of its own, keyed by seed and name, so that two architectures share the initial
values of what they share.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from gptlab.config import Part
from gptlab.parts.layers import Drawn, Embedding, Linear, Role
from gptlab.streams import stream_seed


@dataclass(frozen=True)
class Matrix:
    """What an initial value may depend on. `layer`: of the block it is in; None outside of them."""

    role: Role
    fan_in: int
    fan_out: int
    layer: int | None
    n_layers: int
    d_model: int


class Initialization(Part):
    """The slot `initialization`."""

    @abstractmethod
    def std(self, matrix: Matrix) -> float:
        """Give the standard deviation for a matrix."""

    def lr_factor(self, matrix: Matrix) -> float:
        """Give what the learning rate of a matrix is multiplied by."""
        return 1.0

    def logit_factor(self, d_model: int) -> float:
        """Give what logits are multiplied by."""
        return 1.0

    def hold(self, model: nn.Module) -> None:
        """Bring the weights back to where they are held, at the start and after every step."""

    def assign(self, model: nn.Module, blocks: nn.ModuleList, d_model: int) -> None:
        """Give every matrix its deviation and the factor of its learning rate.

        Raises ValueError for parameters that have no place in the rule.
        """
        layers = {module: i for i, block in enumerate(blocks) for module in block.modules()}
        for module in model.modules():
            if isinstance(module, Linear | Embedding):
                fan_out, fan_in = module.weight.shape
                layer, n_layers = layers.get(module), len(blocks)
                matrix = Matrix(module.role, fan_in, fan_out, layer, n_layers, d_model)
                module.lr_factor = self.lr_factor(matrix)
                module.std = self.std(matrix) if module.std is None else module.std

    @torch.no_grad()
    def apply(self, model: nn.Module, seed: int) -> None:
        """Set every parameter that is random, drawing on the CPU in float32."""
        for name, module in model.named_modules():
            if not isinstance(module, Linear | Embedding | Drawn):
                continue
            generator = torch.Generator().manual_seed(stream_seed(seed, "init", f"{name}.weight"))
            if isinstance(module, Drawn):
                values = module.draw(generator)
            else:
                assert module.std is not None
                values = torch.empty(module.weight.shape)
                values.normal_(0.0, module.std, generator=generator)
            module.weight.copy_(values)
            if isinstance(module, Linear) and module.bias is not None:
                module.bias.zero_()
        self.hold(model)
