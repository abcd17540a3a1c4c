"""Depth-scaled: residual outputs the smaller, the later their layer (Mitchell's, in OLMo).

    outputs of layer l = 0, 1, ...: 1 / sqrt(2 (l + 1) fan_in);    all else: 1 / sqrt(fan_in)

The stream's variance then grows with the logarithm of the depth. OLMo (arXiv:2402.00838) cuts its
values off at three deviations; here they are normal.
"""

import math

from gptlab.parts.initialization import Initialization, Matrix


class DepthScaled(Initialization):
    """Has no settings."""

    def std(self, matrix: Matrix) -> float:
        if matrix.role != "output":
            return matrix.fan_in**-0.5
        layer = matrix.n_layers if matrix.layer is None else matrix.layer  # of heads further ahead
        return 1 / math.sqrt(2 * (layer + 1) * matrix.fan_in)
