"""A cache whose size does not depend on how much has been read.

It cannot be taken back: what a state has read stays in it.

B batch, T new tokens, H heads, K width of keys, V width of values, P inputs before the next token,
C channels.
"""

import torch
from torch import Tensor


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


def _as_many_rows(a_BT: Tensor, b_BT: Tensor) -> tuple[Tensor, Tensor]:
    B = max(a_BT.shape[0], b_BT.shape[0])
    return a_BT.expand(B, -1), b_BT.expand(B, -1)
