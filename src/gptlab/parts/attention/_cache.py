"""A cache of keys and values: the last `size` positions of one layer.

Grouped heads are kept un-expanded. A token at position p stands in slot p % size: a windowed
layer's cache is a ring of W slots, any other has a slot for every position. So which token a slot
holds follows from the positions of the newest ones, row by row, and everything that changes from
token to token is in tensors: a step may be recorded and played back. A text may
go back to an earlier position and overwrite what came after it, but not in a ring, which forgets.
A position for which there is no slot is an error of torch's: its index is out of bounds.

Rows of several documents, or filled up, stand in the order in which they came, with their places.

B batch, K key/value heads, T new tokens, S slots, E d_head.
"""

import torch
from torch import Tensor

from gptlab.kernels.places import Places


class KeyValueCache:
    """Memory is taken at the first `append`, in the keys' own type, on their device.

    `reach`: how far the layer looks back; None: to the beginning. `capacity`: of texts.
    """

    def __init__(self, reach: int | None, capacity: int):
        self.reach = reach
        self.is_ring = reach is not None and reach <= capacity
        self.size = min(reach or capacity, capacity)
        self.length = 0  # tokens appended, but for those of steps that were played back
        self.keys_BKSE = self.values_BKSE = torch.empty(0)
        self.places: Places | None = None  # of rows with documents

    def append(
        self, k_BKTE: Tensor, v_BKTE: Tensor, places: Places
    ) -> tuple[Tensor, Tensor, Places | None]:
        """Remember new tokens; return what they may look at, as `attend` wants it.

        Keys come back with their places, or with None where they are the new tokens' own only.
        """
        T, start = k_BKTE.shape[2], self.length
        if start == 0:
            self._allocate(k_BKTE, v_BKTE, places)
        self.length += T
        seen = (k_BKTE, v_BKTE, None)
        if start and (T == 1 or not self.is_ring):  # they see what the memory holds with them
            self._write(k_BKTE, v_BKTE, places)
            return self.keys_BKSE, self.values_BKSE, self._held(places)
        if start:  # the first of them see what the last ones overwrite
            seen = (
                torch.cat([self.keys_BKSE, k_BKTE], dim=2),
                torch.cat([self.values_BKSE, v_BKTE], dim=2),
                self._held_before(places),
            )
        self._write(k_BKTE[:, :, -self.size :], v_BKTE[:, :, -self.size :], places[-self.size :])
        return seen

    @property
    def can_go_back(self) -> bool:
        """Whether a text may go back to any earlier position."""
        return not self.is_ring

    def resize(self, capacity: int, most: int) -> None:
        """Make room for longer texts, which grow to `most` tokens; a ring never needs any."""
        if self.is_ring:
            return
        larger = KeyValueCache(self.reach, capacity)
        is_free = self.keys_BKSE.is_cpu  # until it is used
        largest = KeyValueCache(self.reach, min(most, 8 * capacity) if is_free else capacity)
        self.keys_BKSE = _resized(self.keys_BKSE, larger.size, largest.size)
        self.values_BKSE = _resized(self.values_BKSE, larger.size, largest.size)
        self.size, self.is_ring = larger.size, larger.is_ring

    def _allocate(self, k_BKTE: Tensor, v_BKTE: Tensor, places: Places) -> None:
        B, K, _, E = k_BKTE.shape
        self.keys_BKSE = k_BKTE.new_zeros(B, K, self.size, E)
        self.values_BKSE = v_BKTE.new_zeros(B, K, self.size, v_BKTE.shape[-1])
        if places.documents_BT is not None:
            self.places = places[:0].filled_up(0, self.size)

    def _held(self, places: Places) -> Places:
        if self.places is not None:
            return self.places
        if self.is_ring:
            return places.held(self.size)
        device = self.keys_BKSE.device  # what no token has written yet comes after all of them
        return places.once(("slots", self.size), lambda: Places.counted(0, self.size, device))

    def _held_before(self, places: Places) -> Places:
        if self.places is not None:
            return self.places.followed_by(places)
        return places.once(
            ("before", self.size),
            lambda: places.held(self.size, before=True).followed_by(places),
        )

    def _write(self, k_BKTE: Tensor, v_BKTE: Tensor, places: Places) -> None:
        slots_BT = self._slots(places)
        if len(slots_BT) == 1:
            self.keys_BKSE.index_copy_(2, slots_BT[0], k_BKTE)
            self.values_BKSE.index_copy_(2, slots_BT[0], v_BKTE)
        else:
            slots_B1T1 = slots_BT[:, None, :, None]
            self.keys_BKSE.scatter_(2, slots_B1T1.expand_as(k_BKTE), k_BKTE)
            self.values_BKSE.scatter_(2, slots_B1T1.expand_as(v_BKTE), v_BKTE)

    def _slots(self, places: Places) -> Tensor:
        if self.places is None:
            if not self.is_ring:
                return places.positions_BT
            return places.once(("ring", self.size), lambda: places.positions_BT % self.size)
        T = places.positions_BT.shape[1]
        slots_T = torch.arange(self.length - T, self.length, device=self.keys_BKSE.device)
        if self.is_ring:
            slots_T = slots_T % self.size
        self.places = self.places.replaced(slots_T, places)
        return slots_T[None]


def _resized(x_BKSE: Tensor, size: int, most: int) -> Tensor:
    """Add slots of zeros: in the memory of x, or in new memory that is enough for `most` slots.

    Rows stay side by side, as they are read fastest. Memory that no process has used yet comes from
    the system page by page, which takes longer than to copy what is in it.
    """
    B, K, S, E = x_BKSE.shape
    if B * K * size * E * x_BKSE.element_size() <= x_BKSE.untyped_storage().nbytes():
        memory, old_BKSE = x_BKSE, x_BKSE.clone()
    else:
        memory, old_BKSE = x_BKSE.new_empty(B * K * most * E), x_BKSE
    new_BKSE = memory.as_strided((B, K, size, E), (K * size * E, size * E, E, 1))
    new_BKSE[:, :, :S] = old_BKSE
    new_BKSE[:, :, S:] = 0
    return new_BKSE
