"""Muon's steps, for all matrices of a shape at once.

N matrices of a shape, P rows, Q columns, P <= Q.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Keller Jordan's quintic iteration
TINY = 1e-7


class BatchedMuon(torch.optim.Optimizer):
    """What `torch.optim.Muon` does with `match_rms_adamw`, in batched products.

    Small matrices one by one leave a machine idle. `grad_scale`: what gradients are divided by,
    if it is set, as torch's fused optimizers have it.
    """

    grad_scale: Tensor | None = None

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float, ns_steps: int):
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.1})
        self.momentum, self.ns_steps = momentum, ns_steps

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for parameters in by_shape.values():
                self._step(parameters, group["lr"], group["weight_decay"])

    def _step(self, parameters: list[Tensor], lr: float, weight_decay: float) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.grad_scale is not None:
            torch._foreach_div_(gradients, self.grad_scale)
        averages = [self._average(parameter) for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - self.momentum)
        torch._foreach_lerp_(gradients, averages, self.momentum)  # Nesterov's look ahead
        steps_NPQ = orthogonalised(torch.stack(gradients), self.ns_steps)
        size = 0.2 * max(steps_NPQ.shape[1:]) ** 0.5  # of AdamW's steps
        torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(
            parameters, steps_NPQ.to(parameters[0].dtype).unbind(), alpha=-lr * size
        )

    def _average(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonalised(x_NPQ: Tensor, n_steps: int) -> Tensor:
    """Bring the singular values of every matrix near to 1, by Newton and Schulz, in bfloat16."""
    if x_NPQ.shape[1] > x_NPQ.shape[2]:
        return orthogonalised(x_NPQ.mT, n_steps).mT
    a, b, c = COEFFICIENTS
    x_NPQ = x_NPQ.bfloat16()
    x_NPQ = x_NPQ / x_NPQ.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)
    for _ in range(n_steps):
        gram_NPP = x_NPQ @ x_NPQ.mT
        change_NPP = torch.baddbmm(gram_NPP, gram_NPP, gram_NPP, beta=b, alpha=c)
        x_NPQ = torch.baddbmm(x_NPQ, change_NPP, x_NPQ, beta=a)
    return x_NPQ
