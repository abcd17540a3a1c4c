"""Zero residual outputs: no branch adds anything at first (Fixup, arXiv:1901.09321)."""

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization
from gptlab.parts.layers import Role


class ZeroOutput(Initialization):
    """`scale` is the standard deviation of everything but the residual outputs."""

    scale: PositiveFloat = 0.02

    def std(self, role: Role, n_layers: int) -> float:
        return 0.0 if role == "output" else self.scale
