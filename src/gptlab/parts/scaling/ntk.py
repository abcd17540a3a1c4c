"""NTK-aware: a larger base, so that near tokens stay as far apart as they were.

Frequency i is divided by factor^(i / (F - 1)): the fastest keeps its pace, the slowest is
interpolated in full (arXiv:2309.00071, section 3.1).
"""

from torch import Tensor

from gptlab.parts.scaling import Factor, Scaling
from gptlab.parts.scaling._ntk import check_ntk, stretch_by_base


class NTK(Scaling):
    """`factor`: how much longer the context becomes; 1 is plain."""

    factor: Factor

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        return stretch_by_base(frequency_F, self.factor)

    def check(self, n_frequencies: int, setting: str) -> None:
        check_ntk(n_frequencies, setting)
