"""GPT-2: N(0, 0.02) everywhere, residual outputs smaller by sqrt(2 L), for L layers."""

import math

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization
from gptlab.parts.layers import Role


class GPT2(Initialization):
    """`scale` is the standard deviation of everything but the residual outputs."""

    scale: PositiveFloat = 0.02

    def std(self, role: Role, n_layers: int) -> float:
        return self.scale / math.sqrt(2 * n_layers) if role == "output" else self.scale
