"""Initialization: the values a model starts from, by the role of each parameter.

Contract: `std(role, ...)` is the standard deviation of a matrix with that role; 0 means zeros.
Biases start at zero, norms at the identity, what is `Drawn` as it says itself. Every parameter has
a random stream of its own, keyed by seed and name, so that two architectures share the initial
values of what they share.
"""

from abc import abstractmethod

import torch
from torch import nn

from gptlab.config import Part
from gptlab.parts.layers import Drawn, Embedding, Linear, Role
from gptlab.streams import stream_seed


class Initialization(Part):
    """The slot `initialization`."""

    @abstractmethod
    def std(self, role: Role, n_layers: int) -> float:
        """Give the standard deviation for a matrix of this role."""

    @torch.no_grad()
    def apply(self, model: nn.Module, n_layers: int, seed: int) -> None:
        """Set every parameter that is random, drawing on the CPU in float32."""
        for name, module in model.named_modules():
            if not isinstance(module, Linear | Embedding | Drawn):
                continue
            generator = torch.Generator().manual_seed(stream_seed(seed, "init", f"{name}.weight"))
            if isinstance(module, Drawn):
                module.weight.copy_(module.draw(generator))
                continue
            own = module.std if isinstance(module, Linear) else None
            std = self.std(module.role, n_layers) if own is None else own
            values = torch.empty(module.weight.shape).normal_(0.0, std, generator=generator)
            module.weight.copy_(values)
            if isinstance(module, Linear) and module.bias is not None:
                module.bias.zero_()
