"""No scaling, as a scheme."""

from torch import Tensor

from gptlab.parts.scaling import Scaling


class Plain(Scaling):
    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        return frequency_F
