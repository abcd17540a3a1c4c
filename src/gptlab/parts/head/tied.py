"""Reuse the token embedding as the head's matrix (arXiv:1608.05859)."""

from torch import Tensor

from gptlab.parts.head import Head, LogitHead, MatrixHead


class Tied(Head):
    """See the settings of the slot."""

    def build(self, d_model: int, vocab_size: int) -> LogitHead:
        return TiedHead(self)


class TiedHead(MatrixHead):
    is_tied = True

    def weight_VD(self, embedding_VD: Tensor) -> Tensor:
        return embedding_VD
