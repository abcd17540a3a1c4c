"""Muon: orthogonalised momentum for what reads and writes the stream, AdamW for the rest.

Keller Jordan, https://kellerjordan.github.io/posts/muon/; steps are scaled to AdamW's size
(arXiv:2502.16982), so that one learning rate suits both. But Adam's numbers add up over the width
of a matrix and an orthogonal step's only to the root of it: of a layer's `lr_factor`, the root.
"""

from typing import Annotated

from pydantic import Field, PositiveFloat
from torch import nn

from gptlab.train.optimizers import (
    Optimizer,
    OptimizerSet,
    fused_adamw,
    parameter_groups,
    weight_layers,
)
from gptlab.train.optimizers._batched_muon import BatchedMuon
from gptlab.train.optimizers._light import light
from gptlab.train.optimizers.adamw import Beta


class Muon(Optimizer):
    """The settings of Muon, and of the AdamW beside it.

    `adamw_lr`: the peak learning rate of everything but those matrices; null: `lr`.
    `momentum`: Muon's, with Nesterov's form. `newton_schulz_steps`: how often the iteration runs
    that makes a matrix orthogonal.
    """

    momentum: Beta = 0.95
    newton_schulz_steps: Annotated[int, Field(gt=0, le=20)] = 5
    adamw_lr: PositiveFloat | None = None
    beta1: Beta = 0.9
    beta2: Beta = 0.95
    eps: PositiveFloat = 1e-8

    def build(self, model: nn.Module) -> OptimizerSet:
        layers = weight_layers(model).items()
        inside = [name for name, layer in layers if layer.role in ("input", "output")]
        known = set(inside)
        rest = [name for name, _ in model.named_parameters() if name not in known]
        groups = parameter_groups(model, inside, self.lr, self.weight_decay, power=0.5)
        muon = light(BatchedMuon)(groups, self.momentum, self.newton_schulz_steps)
        betas = (self.beta1, self.beta2)
        others = fused_adamw(
            model, rest, self.adamw_lr or self.lr, betas, self.eps, self.weight_decay
        )
        return OptimizerSet(model, [muon, others])
