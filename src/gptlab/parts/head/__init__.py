"""Head: from what the stream says to a score per token of the vocabulary, and to the loss.

Contract: `build(d_model, vocab_size)` gives a `LogitHead`; the token embedding comes as an
argument, so that a tied head owns no matrix.

B batch, T tokens, D d_model, V vocabulary.
"""

from abc import ABC, abstractmethod

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gptlab.config import Part


class Head(Part):
    """The slot `head`. `softcap` c: logits become c * tanh(logits / c) (arXiv:2408.00118)."""

    softcap: PositiveFloat | None = None

    @abstractmethod
    def build(self, d_model: int, vocab_size: int) -> "LogitHead":
        """Build the head."""


class LogitHead(nn.Module, ABC):
    """What a head part builds."""

    def __init__(self, softcap: float | None):
        super().__init__()
        self.cap = Softcap(softcap) if softcap else nn.Identity()

    @abstractmethod
    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits before the softcap."""

    def forward(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits_BTV, in float32."""
        return self.cap(self.scores(x_BTD, embedding_VD).float())

    def loss(
        self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor, reduction: str = "mean"
    ) -> Tensor:
        """Compute the cross-entropy in nats of the targets; -100 marks those that do not count."""
        logits_BTV = self(x_BTD, embedding_VD)
        return cross_entropy(logits_BTV.flatten(0, -2), targets_BT.flatten(), reduction=reduction)

    def losses(self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor) -> dict[str, Tensor]:
        """Compute what training minimises: `loss`, and weighted auxiliary losses by their names."""
        return {"loss": self.loss(x_BTD, targets_BT, embedding_VD)}


class Softcap(nn.Module):
    """Squeeze logits smoothly into (-limit, limit)."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, logits: Tensor) -> Tensor:
        return self.limit * (logits / self.limit).tanh()
