"""Optimizer: how gradients become steps.

Contract: `build(model)` gives an `OptimizerSet`. Weight decay acts on the weights of layers that
have a role (`parts/layers.py`) and on nothing else: not on gains, biases, or the numbers with which
a residual mixes, whatever their shape.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gptlab.config import Part
from gptlab.parts.layers import Embedding, Linear, Role


class Optimizer(Part):
    """The slot `optimizer`. `lr`: the peak learning rate, which the schedule multiplies."""

    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.1

    @abstractmethod
    def build(self, model: nn.Module) -> "OptimizerSet":
        """Build the optimizers of this model's parameters."""


class OptimizerSet:
    """One or more torch optimizers that step together; their state goes by parameter name."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]):
        self.optimizers = list(optimizers)
        self.parameters = dict(model.named_parameters())
        self.peaks = [[group["lr"] for group in each.param_groups] for each in self.optimizers]

    def set_lr(self, multiplier: float) -> None:
        """Set every learning rate to this fraction of its peak."""
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * multiplier

    def step(self) -> None:
        """Take a step and forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Give all state as `parameter name/state name`."""
        return {
            f"{name}/{key}": value
            for name, parameter in self.parameters.items()
            for optimizer in self.optimizers
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` gave."""
        for optimizer in self.optimizers:
            owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self.parameters.items():
                if id(parameter) in owned:
                    optimizer.state[parameter] = {
                        key.rpartition("/")[2]: value.to(parameter.device)
                        for key, value in state.items()
                        if key.rpartition("/")[0] == name
                    }


def fused_adamw(
    model: nn.Module,
    names: Sequence[str],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """Build a fused AdamW for these parameters, decaying those that have a role."""
    parameters, roles = dict(model.named_parameters()), weight_roles(model)
    decayed = [parameters[name] for name in names if name in roles]
    others = [parameters[name] for name in names if name not in roles]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr, betas, eps, weight_decay, fused=True)


def weight_roles(model: nn.Module) -> dict[str, Role]:
    """Give the role of every parameter that has one, by its name."""
    roles: dict[int, Role] = {
        id(module.weight): module.role
        for module in model.modules()
        if isinstance(module, Linear | Embedding)
    }
    return {name: roles[id(p)] for name, p in model.named_parameters() if id(p) in roles}
