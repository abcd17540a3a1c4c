"""Optimizer: how gradients become steps.

Contract: `build(model)` gives an `OptimizerSet`. Weight decay acts on the weights of layers that
have a role (`parts/layers.py`) and on nothing else: not on gains, biases, or the numbers with which
a residual mixes, whatever their shape.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gptlab.config import Part
from gptlab.parts.layers import Embedding, Linear
from gptlab.train.optimizers._light import light


class Optimizer(Part):
    """The slot `optimizer`. `lr`: the peak learning rate, which the schedule multiplies.

    A weight whose layer has an `lr_factor`, as with muP, takes steps of so many times `lr`.
    """

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

    def gradients(self) -> list[Tensor]:
        """List the gradients that there are."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def set_lr(self, multiplier: float) -> None:
        """Set every learning rate to this fraction of its peak."""
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(peak * multiplier)
                else:
                    group["lr"] = peak * multiplier

    def make_recordable(self) -> None:
        """Keep learning rates where a recorded step reads them."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                device = group["params"][0].device
                group["lr"] = torch.tensor(group["lr"], device=device)
                group["capturable"] = True

    def can_skip(self) -> bool:
        """Tell whether these optimizers can leave a step out by a number on the device."""
        return all(getattr(each, "_step_supports_amp_scaling", False) for each in self.optimizers)

    def step(self, divisor: Tensor | None = None, is_broken: Tensor | None = None) -> None:
        """Take a step with gradients divided by this, unless `is_broken` is 1, and forget them."""
        for optimizer in self.optimizers:
            vars(optimizer)["grad_scale"] = divisor
            if is_broken is not None:
                vars(optimizer)["found_inf"] = is_broken  # as torch's own gradient scaler says it
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
        by_name: dict[str, dict[str, Tensor]] = {name: {} for name in self.parameters}
        for key, value in state.items():
            name, _, kind = key.rpartition("/")
            by_name[name][kind] = value.to(self.parameters[name].device)
        for optimizer in self.optimizers:
            owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self.parameters.items():
                if id(parameter) in owned:
                    optimizer.state[parameter] = by_name[name]


def fused_adamw(
    model: nn.Module,
    names: Sequence[str],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """Build a fused AdamW for these parameters."""
    groups = parameter_groups(model, names, lr, weight_decay)
    return light(torch.optim.AdamW)(groups, lr, betas, eps, fused=True)


def parameter_groups(
    model: nn.Module, names: Sequence[str], lr: float, weight_decay: float, power: float = 1.0
) -> list[dict[str, Any]]:
    """Group these parameters by the learning rate and the weight decay that are right for them.

    A layer's `lr_factor`, to this power, changes its steps and not its decay, which torch
    multiplies by its rate.
    """
    parameters, layers = dict(model.named_parameters()), weight_layers(model)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name in names:
        factor, decay = 1.0, 0.0
        if name in layers:
            factor = layers[name].lr_factor ** power
            decay = weight_decay / factor
        groups.setdefault((lr * factor, decay), []).append(parameters[name])
    return [
        {"params": params, "lr": lr, "weight_decay": decay}
        for (lr, decay), params in groups.items()
    ]


def weight_layers(model: nn.Module) -> dict[str, Linear | Embedding]:
    """Give the layer of every weight that belongs to one with a role, by the weight's name."""
    layers = {id(m.weight): m for m in model.modules() if isinstance(m, Linear | Embedding)}
    return {name: layers[id(p)] for name, p in model.named_parameters() if id(p) in layers}
