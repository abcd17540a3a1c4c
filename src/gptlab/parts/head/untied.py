"""A matrix of its own (Llama)."""

from torch import Tensor

from gptlab.parts.head import Head, LogitHead, MatrixHead
from gptlab.parts.layers import Linear


class Untied(Head):
    """See the settings of the slot."""

    def build(self, d_model: int, vocab_size: int) -> LogitHead:
        return UntiedHead(self, d_model, vocab_size)


class UntiedHead(MatrixHead):
    def __init__(self, config: Head, d_model: int, vocab_size: int):
        super().__init__(config)
        self.matrix = Linear(d_model, vocab_size, "head")

    def weight_VD(self, embedding_VD: Tensor) -> Tensor:
        return self.matrix.weight

    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        return self.matrix(x_BTD)  # which may be quantized
