"""Zero residual outputs: every block starts as the identity (Fixup, arXiv:1901.09321; muP)."""

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization
from gptlab.parts.layers import Role


class ZeroOutput(Initialization):
    """`scale` is the standard deviation of everything but the residual outputs."""

    scale: PositiveFloat = 0.02

    def std(self, role: Role, n_layers: int) -> float:
        return 0.0 if role == "output" else self.scale
