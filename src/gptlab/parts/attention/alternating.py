"""Different attention in different layers, e.g. three sliding-window layers, then a full one.

Layer l uses entry l modulo the number of entries; the last layer may be excepted. In Gemma 2
(arXiv:2408.00118) local and global layers alternate; Gemma 3 (arXiv:2503.19786) has five local ones
to each global one; nanochat has three, and a global one last.
"""

from pydantic import Field

from gptlab.parts.attention import Attention, Mixer
from gptlab.parts.needs import Needs


class Alternating(Attention):
    """`of`: the attention parts that take turns, from the first layer on.

    `last`: that of the last layer, whatever its turn; null: as its turn has it.
    """

    of: tuple[Attention, ...] = Field(min_length=1)
    last: Attention | None = None

    def build(self, needs: Needs, layer: int) -> Mixer:
        if self.last is not None and layer == needs.n_layers - 1:
            return self.last.build(needs, layer)
        return self.of[layer % len(self.of)].build(needs, layer)
