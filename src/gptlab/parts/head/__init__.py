"""Head: from what the stream says to a score per token of the vocabulary, and to the loss.

Contract: `build(d_model, vocab_size)` gives a `LogitHead`; the token embedding comes as an
argument, so that a tied head owns no matrix.

B batch, T tokens, D d_model, V vocabulary.
"""

from abc import ABC, abstractmethod

from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import linear

from gptlab.config import Part
from gptlab.kernels.cross_entropy import capped, logit_losses, matrix_losses, scaled
from gptlab.kernels.precision import precise


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
    """What a head part builds. `scale` multiplies its logits.

    `is_tied`: whether its matrix is the token embedding.
    """

    is_tied = False

    def __init__(self, config: Head):
        super().__init__()
        self.scale = config.scale or 1.0
        self.softcap, self.z_weight = config.softcap, config.z_loss or 0.0

    @abstractmethod
    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits before the softcap; linear in x."""

    def forward(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        """Compute logits_BTV, in float32 at least."""
        x_BTD = scaled(x_BTD, self.scale)  # fewer numbers than logits
        scores_BTV = self.scores(x_BTD, embedding_VD)
        return capped(precise(scores_BTV), self.softcap)

    def loss(
        self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor, reduction: str = "mean"
    ) -> Tensor:
        """Compute the cross-entropy in nats of the targets; -100 marks those that do not count."""
        return self.compute(x_BTD, targets_BT, embedding_VD, 0.0, reduction)["loss"]

    def losses(self, x_BTD: Tensor, targets_BT: Tensor, embedding_VD: Tensor) -> dict[str, Tensor]:
        """Compute what training minimises: `loss`, and weighted auxiliary losses by their names."""
        return self.compute(x_BTD, targets_BT, embedding_VD, self.z_weight, "mean")

    def compute(
        self,
        x_BTD: Tensor,
        targets_BT: Tensor,
        embedding_VD: Tensor,
        z_weight: float,
        reduction: str,
    ) -> dict[str, Tensor]:
        """Compute losses by name, from all logits."""
        logits_NV = self(x_BTD, embedding_VD).flatten(0, -2)
        return logit_losses(logits_NV, targets_BT.flatten(), z_weight, reduction)


class MatrixHead(LogitHead):
    """A head whose logits are products with one matrix, so that losses can do without all logits.

    `matrix_losses` is the kernel that computes them.
    """

    def __init__(self, config: Head):
        super().__init__(config)
        self.matrix_losses = matrix_losses

    @abstractmethod
    def weight_VD(self, embedding_VD: Tensor) -> Tensor:
        """Give the matrix."""

    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        return linear(x_BTD, self.weight_VD(embedding_VD))

    def compute(
        self,
        x_BTD: Tensor,
        targets_BT: Tensor,
        embedding_VD: Tensor,
        z_weight: float,
        reduction: str,
    ) -> dict[str, Tensor]:
        return self.matrix_losses(
            scaled(x_BTD, self.scale).flatten(0, -2),
            self.weight_VD(embedding_VD),
            targets_BT.flatten(),
            self.softcap,
            z_weight,
            reduction,
        )
