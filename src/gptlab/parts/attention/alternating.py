"""Different attention in different layers, e.g. three sliding-window layers, then a full one.

Layer l uses entry l modulo the number of entries. In Gemma 2 (arXiv:2408.00118) local and global
layers alternate; Gemma 3 (arXiv:2503.19786) has five local ones to each global one.
"""

from pydantic import Field

from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.needs import Needs


class Alternating(Attention):
    """`of`: the attention parts that take turns, from the first layer on."""

    of: tuple[Attention, ...] = Field(min_length=1)

    def build(self, needs: Needs, layer: int) -> Mixer:
        return self.of[layer % len(self.of)].build(needs, layer)
