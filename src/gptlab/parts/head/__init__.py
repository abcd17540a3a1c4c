"""Head: from what the stream says to a score per token of the vocabulary, and to the loss.

Contract: `build(d_model, vocab_size)` gives a `LogitHead`; the token embedding comes as an
argument, so that a tied head owns no matrix.

B batch, T tokens, D d_model, V vocabulary.
"""

from abc import ABC, abstractmethod

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gptlab.config import Part

IGNORED = -100  # a target that does not count


class Head(Part):
    """The slot `head`.

    `scale`: multiplies the logits (Cohere; 1 / logits_scaling in Granite); null means 1.
    `softcap` c: scaled logits become c * tanh(logits / c) (arXiv:2408.00118).
    `z_loss`: in training, this times the mean square of logsumexp(logits), scaled and capped, of
    the targets that count; it keeps logits near to log probabilities (PaLM: 1e-4).
    """

    scale: PositiveFloat | None = None
    softcap: PositiveFloat | None = None
    z_loss: PositiveFloat | None = None

    @abstractmethod
    def build(self, d_model: int, vocab_size: int) -> "LogitHead":
        """Build the head."""


class LogitHead(nn.Module, ABC):
    """What a head part builds. `scale` multiplies its logits."""

    def __init__(self, config: Head):
        super().__init__()
        self.scale = config.scale or 1.0
        self.cap = Softcap(config.softcap) if config.softcap else nn.Identity()
        self.penalties = nn.ModuleDict({"z_loss": ZLoss(config.z_loss)} if config.z_loss else {})

    @abstractmethod
    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits before the softcap; linear in x."""

    def forward(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits_BTV, in float32 at least."""
        scores_BTV = self.scores(self.scale * x_BTD, embedding_VD)  # fewer numbers than logits
        return self.cap(scores_BTV.to(torch.promote_types(scores_BTV.dtype, torch.float32)))

    def loss(
        self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor, reduction: str = "mean"
    ) -> Tensor:
        """Compute the cross-entropy in nats of the targets; -100 marks those that do not count."""
        return nats(self(x_BTD, embedding_VD), targets_BT, reduction)

    def losses(self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor) -> dict[str, Tensor]:
        """Compute what training minimises: `loss`, and weighted auxiliary losses by their names."""
        logits_BTV = self(x_BTD, embedding_VD)
        main = {"loss": nats(logits_BTV, targets_BT)}
        return main | {name: of(logits_BTV, targets_BT) for name, of in self.penalties.items()}


def nats(logits_BTV: Tensor, targets_BT: Tensor, reduction: str = "mean") -> Tensor:
    """Compute the cross-entropy of the targets; -100 marks those that do not count."""
    return cross_entropy(logits_BTV.flatten(0, -2), targets_BT.flatten(), reduction=reduction)


class Softcap(nn.Module):
    """Squeeze logits smoothly into (-limit, limit)."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, logits: Tensor) -> Tensor:
        return self.limit * (logits / self.limit).tanh()


class ZLoss(nn.Module):
    """The weighted mean of logsumexp(logits)^2 over the targets that count (arXiv:2204.02311)."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    def forward(self, logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
        counts_BT = targets_BT != IGNORED
        squares_BT = logits_BTV.logsumexp(-1).square() * counts_BT
        return self.weight * squares_BT.sum() / counts_BT.sum()
