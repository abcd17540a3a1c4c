"""What keeps the experts of a mixture evenly loaded: auxiliary losses, or a bias without any loss.

An expert's load is the fraction of choices that fell on it, its wish what the router would have
given it: its mean probability. The sum of their products tells how far both are from even. A token
for which nobody is chosen, where a row has no text, does not count.

B batch, T tokens, X experts.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptlab.parts.layers import AfterStep

RouterLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of logits, scores, and who is chosen


def balance_loss(logits_BTX: Tensor, scores_BTX: Tensor, chosen_BTX: Tensor) -> Tensor:
    """Compute X * sum load * wish over all tokens: 1 where both are even (arXiv:2101.03961)."""
    return _load_times_wish(scores_BTX.flatten(0, 1), chosen_BTX.flatten(0, 1))


def sequence_balance_loss(logits_BTX: Tensor, scores_BTX: Tensor, chosen_BTX: Tensor) -> Tensor:
    """Compute the same in each row by itself, then the mean of the rows (arXiv:2412.19437)."""
    return _load_times_wish(scores_BTX, chosen_BTX)


def router_z_loss(logits_BTX: Tensor, scores_BTX: Tensor, chosen_BTX: Tensor) -> Tensor:
    """Compute the mean square of log sum exp, which keeps logits small (arXiv:2202.08906)."""
    counts_BT = chosen_BTX.any(-1)
    return (logits_BTX.logsumexp(-1).square() * counts_BT).sum() / counts_BT.sum()


def _load_times_wish(scores_TX: Tensor, chosen_TX: Tensor) -> Tensor:
    counts_T1 = chosen_TX.any(-1, keepdim=True)
    wishes_TX = counts_T1 * scores_TX / scores_TX.sum(-1, keepdim=True)
    load_X, wish_X = chosen_TX.sum(-2), wishes_TX.sum(-2)
    products_X = load_X / load_X.sum(-1, keepdim=True) * wish_X / counts_T1.sum(-2)
    return products_X.shape[-1] * products_X.sum(-1).mean()


class LoadBias(AfterStep):
    """A bias that moves by `step` toward an expert below the mean load, away from one above it.

    It takes part in choosing and in nothing else (arXiv:2408.15664). Loads are counted in training
    over all that one step of the optimizer learns from.
    """

    def __init__(self, n_experts: int, step: float):
        super().__init__()
        self.step = step
        self.bias_X = nn.Buffer(torch.zeros(n_experts))
        self.load_X: Tensor | int = 0

    def forward(self, scores_BTX: Tensor) -> Tensor:
        return scores_BTX + self.bias_X

    def count(self, chosen_BTX: Tensor) -> None:
        """Add up the load, in training."""
        if self.training:
            self.load_X = self.load_X + chosen_BTX.sum((0, 1))

    def after_step(self) -> None:
        """Move the bias, and begin to count anew."""
        load_X = torch.zeros_like(self.bias_X) + self.load_X
        self.bias_X += self.step * (load_X.mean() - load_X).sign()
        self.load_X = 0

    def forget_step(self) -> None:
        """Begin to count anew."""
        self.load_X = 0


class NoLoadBias(nn.Module):
    def forward(self, scores_BTX: Tensor) -> Tensor:
        return scores_BTX

    def count(self, chosen_BTX: Tensor) -> None:
        pass
