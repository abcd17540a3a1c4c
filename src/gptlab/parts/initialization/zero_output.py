"""Zero residual outputs: no branch adds anything at first (Fixup, arXiv:1901.09321)."""

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization, Matrix


class ZeroOutput(Initialization):
    """`scale` is the standard deviation of everything but the residual outputs."""

    scale: PositiveFloat = 0.02

    def std(self, matrix: Matrix) -> float:
        return 0.0 if matrix.role == "output" else self.scale
