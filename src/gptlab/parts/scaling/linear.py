"""Linear: every frequency divided by the factor, positions squeezed together (arXiv:2306.15595)."""

from torch import Tensor

from gptlab.parts.scaling import Factor, Scaling


class Linear(Scaling):
    """`factor`: how much longer the context becomes; 1 is plain."""

    factor: Factor

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        return frequency_F / self.factor
