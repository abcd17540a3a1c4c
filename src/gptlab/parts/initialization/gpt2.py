"""GPT-2: N(0, 0.02), residual outputs smaller by sqrt(2 L), for L layers (Radford et al., 2019).

Positions too start with 0.02, as in later code; OpenAI's own draws them with 0.01.
"""

import math

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization, Matrix


class GPT2(Initialization):
    """`scale` is the standard deviation of everything but the residual outputs."""

    scale: PositiveFloat = 0.02

    def std(self, matrix: Matrix) -> float:
        return self.scale / (math.sqrt(2 * matrix.n_layers) if matrix.role == "output" else 1)
