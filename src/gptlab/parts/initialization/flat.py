"""Flat: N(0, 0.02) for every matrix, residual outputs too (Llama, most of Hugging Face)."""

from pydantic import PositiveFloat

from gptlab.parts.initialization import Initialization, Matrix


class Flat(Initialization):
    """`scale` is the standard deviation."""

    scale: PositiveFloat = 0.02

    def std(self, matrix: Matrix) -> float:
        return self.scale
