"""Where tokens stand: their position, and the document they belong to.

B rows, or 1 where all rows agree; T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

V = TypeVar("V")
NOWHERE = 2**30  # the position of a filler: after all others, so that nothing sees it


@dataclass(frozen=True, eq=False)
class Places:
    """The places of some tokens of every row.

    positions_BT: explicit, and never inferred from a cache. Tokens of a document stand in order.
    documents_BT: tells the texts of a packed row apart, which do not see each other; None: a row is
    one text, without gaps. Rows of different lengths are filled up on the left with a document of
    its own. Where a row has no text at all, in training, it is below 0.
    """

    positions_BT: Tensor
    documents_BT: Tensor | None = None
    _derived: dict[Any, Any] = field(init=False, repr=False, default_factory=dict)

    @classmethod
    def counted(cls, start: int, stop: int, device: torch.device | None = None) -> "Places":
        """Places from start on, up to before stop, in one text per row."""
        return cls(torch.arange(start, stop, device=device)[None])

    @classmethod
    def packed(cls, documents_BT: Tensor) -> "Places":
        """Places of whole rows of documents, each of which counts from 0."""
        index_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
        is_first_BT = torch.ones_like(documents_BT, dtype=torch.bool)
        is_first_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
        start_BT = torch.where(is_first_BT, index_T, 0).cummax(dim=1).values
        return cls(index_T - start_BT, documents_BT)

    def __getitem__(self, tokens: slice) -> "Places":
        """The places of some of the tokens."""
        return self.map(lambda x_BT: x_BT[:, tokens])

    def followed_by(self, other: "Places") -> "Places":
        """The places of these tokens and then of others."""
        positions_BT = _join(self.positions_BT, other.positions_BT)
        if self.documents_BT is None or other.documents_BT is None:
            return Places(positions_BT)
        return Places(positions_BT, _join(self.documents_BT, other.documents_BT))

    def held(self, size: int, before: bool = False) -> "Places":
        """What stands in a memory of so many slots, each token in slot `position % size`.

        Once these tokens are written, or before they are; NOWHERE where nothing is.
        """
        return self.once(("held", size, before), lambda: self._held(size, before))

    def _held(self, size: int, before: bool) -> "Places":
        last_B1 = self.positions_BT[:, :1] - 1 if before else self.positions_BT[:, -1:]
        slot_S = torch.arange(size, device=last_B1.device)
        position_BS = last_B1 - (last_B1 - slot_S) % size
        return Places(position_BS.where(position_BS >= 0, NOWHERE))

    def replaced(self, slots_T: Tensor, other: "Places") -> "Places":
        """These places, with others in some of the slots."""
        positions_BS = _put(self.positions_BT, slots_T, other.positions_BT)
        if self.documents_BT is None or other.documents_BT is None:
            return Places(positions_BS)
        return Places(positions_BS, _put(self.documents_BT, slots_T, other.documents_BT))

    def filled_up(self, before: int, after: int) -> "Places":
        """Add fillers, which are a document of their own that no other token sees."""
        fill = (before, after)
        positions_BT = pad(self.positions_BT, fill, value=NOWHERE)
        if self.documents_BT is None:
            return Places(positions_BT)
        return Places(positions_BT, pad(self.documents_BT, fill, value=-NOWHERE))

    def once(self, key: Any, derive: Callable[[], V]) -> V:
        """Derive something of these places, such as a mask, once for all layers that ask for it."""
        if key not in self._derived:
            self._derived[key] = derive()
        return self._derived[key]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Places":
        """Apply a change of shape, or a choice of tokens, to positions and documents alike."""
        documents = None if self.documents_BT is None else change(self.documents_BT)
        return Places(change(self.positions_BT), documents)


def visible(
    queries: Places, keys: Places, window: int | None = None, chunk: int | None = None
) -> Tensor:
    """Tell which keys each query sees, as seen_BTS.

    Those of its document, up to itself; with a window of W the last W of them, itself included;
    with chunks of C those with the same position // C.
    """
    at = queries.map(lambda x_BT: x_BT[..., :, None])
    return sees(at, keys.map(lambda x_BS: x_BS[..., None, :]), window, chunk)


def sees(
    queries: Places, keys: Places, window: int | None = None, chunk: int | None = None
) -> Tensor:
    """Tell, as `visible` does, of queries and keys whose places have shapes that broadcast."""
    q, k = queries.positions_BT, keys.positions_BT
    seen = k <= q
    if window is not None:
        seen = seen & (q - k < window)
    if chunk is not None:
        seen = seen & (q // chunk == k // chunk)
    if queries.documents_BT is not None and keys.documents_BT is not None:
        seen = seen & (queries.documents_BT == keys.documents_BT)
    return seen


def _join(a_BS: Tensor, b_BT: Tensor) -> Tensor:
    B = max(len(a_BS), len(b_BT))
    return torch.cat([a_BS.expand(B, -1), b_BT.expand(B, -1)], dim=1)


def _put(x_BS: Tensor, slots_T: Tensor, new_BT: Tensor) -> Tensor:
    return x_BS.index_copy(1, slots_T, new_BT.expand(len(x_BS), -1))
