"""Dynamic NTK: the base grows with the length beyond the original one.

ntk with a factor of s * T / T0 - (s - 1) for a text of T tokens, 1 up to T0 (arXiv:2309.00071,
section 3.3). The original follows the text at hand, so that keys in its cache are stale at each
token beyond T0; here T is the model's `context_length`, from the first token on.
"""

from pydantic import PositiveInt
from torch import Tensor

from gptlab.parts.scaling import Factor, Scaling
from gptlab.parts.scaling._ntk import check_ntk, stretch_by_base


class DynamicNTK(Scaling):
    """`original_length`: T0, the context length of training. `factor`: s, how fast it grows."""

    original_length: PositiveInt
    factor: Factor = 1.0

    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        growth = max(context_length / self.original_length, 1.0)
        return stretch_by_base(frequency_F, self.factor * growth - (self.factor - 1))

    def check(self, n_frequencies: int, setting: str) -> None:
        check_ntk(n_frequencies, setting)
