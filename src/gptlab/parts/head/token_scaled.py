"""A matrix of its own, and a learned multiplier per token of the vocabulary (nGPT).

s_z * (W x), arXiv:2410.01131: cosines alone could not say that they are sure.

B batch, T tokens, D d_model, V vocabulary.
"""

from pydantic import PositiveFloat
from torch import Tensor

from gptlab.parts.head import LogitHead, MatrixHead
from gptlab.parts.head.untied import Untied
from gptlab.parts.layers import Linear, Scale


class TokenScaled(Untied):
    """The settings of the slot, and those of the multipliers.

    `s_z_start`: where they start. `s_z_scale`: of their steps, see `layers.Scale`; null means
    d_model^-0.5.
    """

    s_z_start: PositiveFloat = 1.0
    s_z_scale: PositiveFloat | None = None

    def build(self, d_model: int, vocab_size: int) -> LogitHead:
        return TokenScaledHead(self, d_model, vocab_size)


class TokenScaledHead(MatrixHead):
    def __init__(self, config: TokenScaled, d_model: int, vocab_size: int):
        super().__init__(config)
        self.matrix = Linear(d_model, vocab_size, "head")
        self.s_z = Scale((vocab_size,), config.s_z_start, config.s_z_scale or d_model**-0.5)

    def weight_VD(self, embedding_VD: Tensor) -> Tensor:
        return self.s_z()[:, None] * self.matrix.weight

    def scores(self, x_BTD: Tensor, embedding_VD: Tensor) -> Tensor:
        return self.s_z() * self.matrix(x_BTD)
