"""A cache of keys and values: the last `capacity` positions of one layer.

Grouped heads are kept un-expanded. A windowed layer's cache is a ring of W positions. Every slot
keeps its absolute position, so that masks never depend on where in the ring a key lies.

B batch, K key/value heads, T new tokens, S remembered tokens, E d_head.
"""

import torch
from torch import Tensor


class KeyValueCache:
    """Memory is taken at the first `append`, in the keys' own type, on their device."""

    def __init__(self, capacity: int, is_ring: bool):
        self.capacity, self.is_ring = capacity, is_ring
        self.length = 0  # tokens ever appended
        self.keys_BKSE = self.values_BKSE = self.positions_S = torch.empty(0)

    def append(
        self, k_BKTE: Tensor, v_BKTE: Tensor, positions_T: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Remember new tokens; return what they may look at, as `attend` wants it.

        Keys come back with their positions, or with None where they are the new tokens' own only.
        """
        T, start = k_BKTE.shape[2], self.length
        if start == 0:
            self._allocate(k_BKTE, v_BKTE, positions_T)
        self.length += T
        if self.length <= self.capacity:  # nothing is forgotten
            self._write(slice(start, self.length), k_BKTE, v_BKTE, positions_T)
            return (k_BKTE, v_BKTE, None) if start == 0 and T > 1 else self._read(self.length)
        assert self.is_ring, f"{self.length} tokens in a cache of {self.capacity}"
        if T == 1:
            self._write(
                slice(start % self.capacity, start % self.capacity + 1), k_BKTE, v_BKTE, positions_T
            )
            return self._read(self.capacity)
        old_k, old_v, old_positions = self._read(min(start, self.capacity))
        seen = (
            (k_BKTE, v_BKTE, None)
            if start == 0
            else (
                torch.cat([old_k, k_BKTE], dim=2),
                torch.cat([old_v, v_BKTE], dim=2),
                torch.cat([old_positions, positions_T]),
            )
        )
        kept = min(T, self.capacity)
        slots = torch.arange(self.length - kept, self.length, device=k_BKTE.device) % self.capacity
        self._write(slots, k_BKTE[:, :, -kept:], v_BKTE[:, :, -kept:], positions_T[-kept:])
        return seen

    def _allocate(self, k_BKTE: Tensor, v_BKTE: Tensor, positions_T: Tensor) -> None:
        B, K, _, E = k_BKTE.shape
        self.keys_BKSE = k_BKTE.new_empty(B, K, self.capacity, E)
        self.values_BKSE = v_BKTE.new_empty(B, K, self.capacity, v_BKTE.shape[-1])
        self.positions_S = positions_T.new_empty(self.capacity)

    def _write(self, slots: slice | Tensor, k: Tensor, v: Tensor, positions: Tensor) -> None:
        self.keys_BKSE[:, :, slots] = k
        self.values_BKSE[:, :, slots] = v
        self.positions_S[slots] = positions

    def _read(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.keys_BKSE[:, :, :length],
            self.values_BKSE[:, :, :length],
            self.positions_S[:length],
        )
