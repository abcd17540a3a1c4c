"""A cache of keys and values: the last `capacity` positions of one layer.

Grouped heads are kept un-expanded. A windowed layer's cache is a ring of W positions. Every slot
keeps the place of its token, so that masks never depend on where in the ring a key lies.

B batch, K key/value heads, T new tokens, S remembered tokens, E d_head.
"""

import torch
from torch import Tensor

from gptlab.kernels.places import Places


class KeyValueCache:
    """Memory is taken at the first `append`, in the keys' own type, on their device."""

    def __init__(self, capacity: int, is_ring: bool):
        self.capacity, self.is_ring = capacity, is_ring
        self.length = 0  # tokens ever appended
        self.keys_BKSE = self.values_BKSE = torch.empty(0)
        self.places = Places(torch.empty(0))

    @classmethod
    def reaching(cls, reach: int | None, capacity: int) -> "KeyValueCache":
        """Make one for layers that look back this far; None: to the beginning."""
        if reach is None or reach > capacity:
            return cls(capacity, is_ring=False)
        return cls(reach, is_ring=True)

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
        if self.length <= self.capacity:  # nothing is forgotten
            self._write(slice(start, self.length), k_BKTE, v_BKTE, places)
            return (k_BKTE, v_BKTE, None) if start == 0 and T > 1 else self._read(self.length)
        assert self.is_ring, f"{self.length} tokens in a cache of {self.capacity}"
        if T == 1:
            slot = start % self.capacity
            self._write(slice(slot, slot + 1), k_BKTE, v_BKTE, places)
            return self._read(self.capacity)
        old_k, old_v, old_places = self._read(min(start, self.capacity))
        seen = (
            (k_BKTE, v_BKTE, None)
            if start == 0
            else (
                torch.cat([old_k, k_BKTE], dim=2),
                torch.cat([old_v, v_BKTE], dim=2),
                old_places.followed_by(places),
            )
        )
        kept = min(T, self.capacity)
        slots = torch.arange(self.length - kept, self.length, device=k_BKTE.device) % self.capacity
        self._write(slots, k_BKTE[:, :, -kept:], v_BKTE[:, :, -kept:], places[T - kept :])
        return seen

    def _allocate(self, k_BKTE: Tensor, v_BKTE: Tensor, places: Places) -> None:
        B, K, _, E = k_BKTE.shape
        self.keys_BKSE = k_BKTE.new_empty(B, K, self.capacity, E)
        self.values_BKSE = v_BKTE.new_empty(B, K, self.capacity, v_BKTE.shape[-1])
        self.places = places.map(lambda x_BT: x_BT.new_empty(len(x_BT), self.capacity))

    def _write(self, slots: slice | Tensor, k: Tensor, v: Tensor, places: Places) -> None:
        self.keys_BKSE[:, :, slots] = k
        self.values_BKSE[:, :, slots] = v
        self.places.positions_BT[:, slots] = places.positions_BT
        if self.places.documents_BT is not None:
            assert places.documents_BT is not None, "these rows have documents"
            self.places.documents_BT[:, slots] = places.documents_BT

    def _read(self, length: int) -> tuple[Tensor, Tensor, Places]:
        return (
            self.keys_BKSE[:, :, :length],
            self.values_BKSE[:, :, :length],
            self.places[:length],
        )
