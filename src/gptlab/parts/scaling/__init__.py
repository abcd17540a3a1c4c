"""Scaling: slower rotations, so that a model reads texts longer than those it was trained on.

Contract: `stretch` maps the plain frequencies to those in use, and `attention_factor` multiplies
rotated queries and keys. Both may depend on the model's `context_length`, never on the text at
hand: a cached key keeps the rotation it was given, and so do the layers above it, so frequencies
that followed the text's length would make a text in pieces another text.

F frequencies of a head, in radians per token, fastest first: frequency i of a rotation of R = 2F
dimensions is base^(-2i/R).
"""

from abc import abstractmethod
from typing import Annotated

from pydantic import Field
from torch import Tensor

from gptlab.config import Part

Factor = Annotated[float, Field(ge=1)]


class Scaling(Part):
    """The slot `scaling` of rotary positions."""

    @abstractmethod
    def stretch(self, frequency_F: Tensor, base: float, context_length: int) -> Tensor:
        """Slow the frequencies down."""

    def attention_factor(self, context_length: int) -> float:
        """Give the number that queries and keys are multiplied by, each."""
        return 1.0

    def check(self, n_frequencies: int, setting: str) -> None:
        """Raise ValueError if settings do not fit each other, or so many frequencies.

        setting: the one that chose this scaling, for the message.
        """
