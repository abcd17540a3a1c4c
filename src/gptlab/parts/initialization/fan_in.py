"""Fan-in: N(0, gain / sqrt(fan_in)), so that outputs are as large as inputs (LeCun et al., 1998).

The fan-in of an embedding is its width: its vectors have a length of about `gain`.
"""

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization, Matrix


class FanIn(Initialization):
    """`gain` multiplies every standard deviation."""

    gain: PositiveFloat = 1.0

    def std(self, matrix: Matrix) -> float:
        return self.gain * matrix.fan_in**-0.5
