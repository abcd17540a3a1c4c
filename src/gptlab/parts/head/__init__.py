"""Head: from what the stream says to a score per token of the vocabulary, and to the loss.

Contract: `build(d_model, vocab_size)` gives a `LogitHead`; the token embedding comes as an
argument, so that a tied head owns no matrix.

B batch, T tokens, D d_model, V vocabulary.
"""

from abc import ABC, abstractmethod

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from gptlab.config import Part
from gptlab.kernels.linear_cross_entropy import IGNORED, linear_cross_entropy, linear_nats

MANY_LOGITS = 2**22


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
        self.softcap = config.softcap
        self.cap = Softcap(config.softcap) if config.softcap else nn.Identity()
        self.penalties = nn.ModuleDict({"z_loss": ZLoss(config.z_loss)} if config.z_loss else {})

    @abstractmethod
    def matrix_VD(self, embedding_VD: Tensor) -> Tensor:
        """Give the matrix whose products with x are the scores."""

    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits before the softcap; linear in x."""
        return linear(x_BTD, self.matrix_VD(embedding_VD))

    def forward(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits_BTV, in float32 at least."""
        scores_BTV = self.scores(self.scale * x_BTD, embedding_VD)  # fewer numbers than logits
        return self.cap(scores_BTV.to(torch.promote_types(scores_BTV.dtype, torch.float32)))

    def loss(
        self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor, reduction: str = "mean"
    ) -> Tensor:
        """Compute the cross-entropy in nats of the targets; -100 marks those that do not count."""
        needs_logits = reduction == "none" and torch.is_grad_enabled()
        if needs_logits or not self.is_large(x_BTD, embedding_VD):
            return nats(self(x_BTD, embedding_VD), targets_BT, reduction)
        product = self.as_product(x_BTD, targets_BT, embedding_VD)
        if reduction == "none":
            return linear_nats(*product)
        total = linear_cross_entropy(*product)
        return total / (targets_BT != IGNORED).sum() if reduction == "mean" else total

    def losses(self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor) -> dict[str, Tensor]:
        """Compute what training minimises: `loss`, and weighted auxiliary losses by their names."""
        if not self.penalties:
            return {"loss": self.loss(x_BTD, targets_BT, embedding_VD)}
        logits_BTV = self(x_BTD, embedding_VD)
        main = {"loss": nats(logits_BTV, targets_BT)}
        return main | {name: of(logits_BTV, targets_BT) for name, of in self.penalties.items()}

    def is_large(self, x_BTD: Tensor, embedding_VD: Tensor) -> bool:
        """Tell whether the logits are so many that they are better never in memory at once."""
        n_logits = x_BTD.shape[:-1].numel() * len(embedding_VD)
        return n_logits >= MANY_LOGITS and not torch.compiler.is_compiling()

    def as_product(
        self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, float | None]:
        """Give what `kernels/linear_cross_entropy.py` takes."""
        x_ND = self.scale * x_BTD.flatten(0, -2)
        return x_ND, self.matrix_VD(embedding_VD), targets_BT.flatten(), self.softcap


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
