"""The router of a mixture: which experts compute a token, and how much each of them counts.

B batch, T tokens, D d_model, X experts, K experts of a token, G groups of experts.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, logsigmoid, softmax

from gptlab.parts.context import Context
from gptlab.parts.layers import Linear
from gptlab.parts.mlp import MLP
from gptlab.parts.mlp._balance import (
    LoadBias,
    NoLoadBias,
    RouterLoss,
    balance_loss,
    router_z_loss,
    sequence_balance_loss,
)

Count = Annotated[int, Field(gt=0, le=10_000)]
STD = 0.02  # of the router's matrix, whatever the depth


class RouterSettings(MLP):
    """The settings that choose and balance; `MixtureOfExperts` says what each of them is."""

    n_experts: Count = 8
    top_k: Count = 2
    score: Literal["softmax", "sigmoid"] = "softmax"
    renormalize: bool = True
    routed_scale: PositiveFloat = 1.0
    router_bias: bool = False
    n_groups: Count = 1
    top_groups: Count = 1
    balance_loss: NonNegativeFloat = 0.01
    sequence_balance_loss: NonNegativeFloat = 0.0
    router_z_loss: NonNegativeFloat = 0.0
    load_bias_step: NonNegativeFloat = 0.0

    def check_choice(self) -> None:
        """Raise ValueError if so many experts cannot be chosen, or the choice cannot be learned."""
        experts, groups = f"n_experts={self.n_experts}", f"n_groups={self.n_groups}"
        if self.n_experts % self.n_groups:
            raise ValueError(f"model.mlp.{groups} does not divide model.mlp.{experts}")
        if self.top_groups > self.n_groups:
            raise ValueError(
                f"model.mlp.top_groups={self.top_groups} is more than model.mlp.{groups}"
            )
        within_reach = self.n_experts // self.n_groups * self.top_groups
        if self.top_k > within_reach:
            raise ValueError(
                f"model.mlp.top_k={self.top_k} is more than the {within_reach} experts to choose "
                f"from with model.mlp.{experts}, {groups} and top_groups={self.top_groups}"
            )
        if self.top_k == 1 and self.renormalize:
            raise ValueError(
                "model.mlp.top_k=1 with model.mlp.renormalize=true: a single weight is always 1, "
                "and the router learns nothing from the loss; set model.mlp.renormalize=false"
            )

    def build_router(self, d_model: int) -> "Router":
        """Build the router of one layer."""
        return Router(d_model, self)

    def losses(self) -> list[tuple[str, float, RouterLoss]]:
        """Give the auxiliary losses that are wanted, with their weights."""
        each = (balance_loss, sequence_balance_loss, router_z_loss)
        weighted = [(loss.__name__, getattr(self, loss.__name__), loss) for loss in each]
        return [(name, weight, loss) for name, weight, loss in weighted if weight]


class Router(nn.Module):
    def __init__(self, d_model: int, settings: RouterSettings):
        super().__init__()
        n_experts, step = settings.n_experts, settings.load_bias_step
        self.matrix = Linear(d_model, n_experts, "router", settings.router_bias, std=STD)
        self.load_bias = LoadBias(n_experts, step) if step else NoLoadBias()
        grouped = settings.n_groups > 1
        self.limit = (
            BestGroups(settings.n_groups, settings.top_groups) if grouped else nn.Identity()
        )
        self.log_score = logsigmoid if settings.score == "sigmoid" else partial(log_softmax, dim=-1)
        self.weigh = partial(softmax, dim=-1) if settings.renormalize else torch.exp
        self.top_k, self.scale, self.losses = (
            settings.top_k,
            settings.routed_scale,
            settings.losses(),
        )

    def forward(self, x_BTD: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Give weights_BTK and experts_BTK of every token."""
        logits_BTX = in_float32(self.matrix, x_BTD)
        log_scores_BTX = self.log_score(logits_BTX)
        scores_BTX = log_scores_BTX.exp()
        experts_BTK = self.limit(self.load_bias(scores_BTX.detach())).topk(self.top_k)[1]
        self._balance(logits_BTX, scores_BTX, experts_BTK, context)
        return self.scale * self.weigh(log_scores_BTX.gather(-1, experts_BTK)), experts_BTK

    def _balance(
        self, logits_BTX: Tensor, scores_BTX: Tensor, experts_BTK: Tensor, context: Context
    ) -> None:
        if context.losses is None:  # nothing is learnt from this pass
            return
        nobody_BTX = torch.zeros_like(scores_BTX, dtype=torch.bool)
        chosen_BTX = nobody_BTX.scatter(-1, experts_BTK, True)
        if context.documents_BT is not None:
            chosen_BTX &= (context.documents_BT >= 0)[..., None]  # fillers choose nobody
        self.load_bias.count(chosen_BTX)
        for name, weight, loss in self.losses:
            context.add_loss(name, weight * loss(logits_BTX, scores_BTX, chosen_BTX))


class BestGroups(nn.Module):
    """Shut out every expert but those of the groups whose two best scores add up to most."""

    def __init__(self, n_groups: int, top_groups: int):
        super().__init__()
        self.n_groups, self.top_groups = n_groups, top_groups

    def forward(self, scores_BTX: Tensor) -> Tensor:
        scores_BTGX = scores_BTX.unflatten(-1, (self.n_groups, -1))
        groups_BTG = scores_BTGX.topk(min(2, scores_BTGX.shape[-1]))[0].sum(-1)
        shut_BTG = torch.ones_like(groups_BTG, dtype=torch.bool)
        shut_BTG = shut_BTG.scatter(-1, groups_BTG.topk(self.top_groups)[1], False)
        return scores_BTGX.masked_fill(shut_BTG[..., None], -torch.inf).flatten(-2)


def in_float32(matrix: Linear, x: Tensor) -> Tensor:
    """Apply a matrix in float32 at least: rounding would send tokens to other experts."""
    wide = torch.promote_types(x.dtype, torch.float32)
    bias = None if matrix.bias is None else matrix.bias.to(wide)
    with no_autocast(x.device.type):
        return linear(x.to(wide), matrix.weight.to(wide), bias)


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
