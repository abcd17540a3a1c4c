"""AdamW: adaptive steps with decoupled weight decay (arXiv:1711.05101), in torch's fused form."""

from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import nn

from gptlab.train.optimizers import Optimizer, OptimizerSet, fused_adamw

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamW(Optimizer):
    """`beta1`, `beta2`: how long the mean and the square of the gradient are remembered."""

    beta1: Beta = 0.9
    beta2: Beta = 0.95
    eps: PositiveFloat = 1e-8

    def build(self, model: nn.Module) -> OptimizerSet:
        names = [name for name, _ in model.named_parameters()]
        betas = (self.beta1, self.beta2)
        return OptimizerSet(
            model, [fused_adamw(model, names, self.lr, betas, self.eps, self.weight_decay)]
        )
