"""What recurrent mixers share: all of the past in a state of constant size.

It cannot be taken back: what a state has read stays in it, until another text begins.

B batch, T new tokens, H heads, K width of keys, V width of values, P inputs before the next token,
C channels.
"""

import torch
from torch import Tensor

from gptlab.parts.attention import Mixer
from gptlab.parts.context import Context


class RecurrentCache:
    """A state, the last inputs of a convolution, and the document of the last token.

    Empty, it stands for the start of a text.
    """

    def __init__(self) -> None:
        self.state_BHKV: Tensor | None = None
        self.past_BPC: Tensor | None = None
        self.document_B1: Tensor | None = None

    def segments(self, documents_BT: Tensor | None) -> Tensor | None:
        """Number the texts of new tokens: 0 for what goes on, one more wherever one begins."""
        if documents_BT is None:
            return None
        if self.document_B1 is None:
            self.document_B1 = documents_BT[:, :1]
        documents_BT, last_B1 = _as_many_rows(documents_BT, self.document_B1)
        self.document_B1 = documents_BT[:, -1:]
        return (documents_BT != torch.cat([last_B1, documents_BT[:, :-1]], dim=1)).cumsum(1)


class RecurrentMixer(Mixer):
    """A mixer whose cache is a `RecurrentCache`, and whose cost per token is always the same."""

    layer: int

    def cache(self, context: Context) -> RecurrentCache:
        """Find the cache of this layer; without caches, every text is at its start."""
        return RecurrentCache() if context.caches is None else context.caches[self.layer]

    def new_cache(self, capacity: int) -> RecurrentCache:
        return RecurrentCache()

    def score_flops_of_all(self, T: int) -> float:
        return self.score_flops(T)


def _as_many_rows(a_BT: Tensor, b_BT: Tensor) -> tuple[Tensor, Tensor]:
    B = max(a_BT.shape[0], b_BT.shape[0])
    return a_BT.expand(B, -1), b_BT.expand(B, -1)
