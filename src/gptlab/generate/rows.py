"""The rows of a batch in caches, whatever these are made of.

A cache is an object whose tensors have a row per text; a layer without a cache has None.

N texts.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor


def tensors(caches: Sequence[Any]) -> Iterator[tuple[Any, str, Tensor]]:
    """Go through every tensor, as the attribute of a cache that it is."""
    for cache in caches:
        for name, value in [*vars(cache).items()] if cache is not None else ():
            if isinstance(value, Tensor):
                yield cache, name, value


def keep_rows(caches: Sequence[Any], rows: list[int]) -> None:
    """Leave all other rows out."""
    for cache, name, tensor in tensors(caches):
        setattr(cache, name, tensor[rows])


def put_rows(caches: Sequence[Any], rows: list[int], others: Sequence[Any], N: int) -> None:
    """Overwrite some rows of N by all rows of others; in place, but where nothing was yet."""
    for cache, other in zip(caches, others, strict=True):
        for name, value in [*vars(other).items()] if other is not None else ():
            mine = getattr(cache, name)
            if not isinstance(value, Tensor):
                setattr(cache, name, value)
            elif mine is not None and len(rows) == len(mine) == N:
                mine.copy_(value)
            elif mine is not None and len(mine) == N:
                mine[rows] = value
            elif len(rows) == N:
                setattr(cache, name, value)
            else:
                setattr(cache, name, value.new_zeros(N, *value.shape[1:]))
                getattr(cache, name)[rows] = value
