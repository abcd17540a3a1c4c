"""Which tensor of theirs holds which of ours: one table, used in both directions.

A table maps our module (or parameter) to theirs, with `#` for the number of a layer. A tensor of
theirs may lie transposed, or hold several of ours. Connecting gives views, so that reading copies
theirs into ours and writing copies ours into theirs, without a third tensor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

LAYER = re.compile(r"^blocks\.(\d+)\.")


@dataclass(frozen=True)
class Theirs:
    """A place for a module of ours.

    `transposed`: matrices lie (in, out), as GPT-2's. `fused`: those of the same name lie one after
    the other along the rows, in the table's order, in each of so many `groups` (GPT-NeoX: heads).
    `turned`: the halves of the rows of each of so many heads change places (nanochat).
    """

    name: str
    transposed: bool = False
    fused: bool = False
    groups: int = 1
    turned: int = 0


Table = Mapping[str, str | Theirs]


@dataclass(frozen=True)
class Link:
    """A parameter of ours, and the rows of a tensor of theirs that hold it.

    `shape`: of the whole tensor of theirs. `start`, `rows`: the part of each group that is ours.
    For the rest see `Theirs`.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]
    place: Theirs
    start: int
    rows: int

    def read(self, ours: Tensor, theirs: Tensor) -> None:
        """Copy theirs into ours."""
        self._grouped(ours).copy_(self._turned(self._part(theirs)))

    def write(self, ours: Tensor, theirs: Tensor) -> None:
        """Copy ours into theirs."""
        self._part(theirs).copy_(self._turned(self._grouped(ours)))

    @property
    def lies_alike(self) -> bool:
        """Whether both are the same tensor."""
        return not (self.place.transposed or self.place.fused or self.place.turned)

    def _part(self, theirs: Tensor) -> Tensor:
        lying = theirs.mT if self.place.transposed and theirs.ndim > 1 else theirs
        return self._grouped(lying).narrow(1, self.start, self.rows)

    def _grouped(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.place.groups, -1))

    def _turned(self, grouped: Tensor) -> Tensor:
        if not self.place.turned:
            return grouped
        halves = grouped.unflatten(1, (self.place.turned, 2, -1))
        return halves.flip(2).flatten(1, 3)


def connect(table: Table, state: Mapping[str, Tensor]) -> dict[str, list[Link]]:
    """Find the place of every parameter of ours, by the names of theirs."""
    order = {name: i for i, name in enumerate(table)}
    placed: dict[str, list[tuple[int, str, Theirs]]] = {}
    for ours in state:
        key, place = _place(table, ours)
        placed.setdefault(place.name, []).append((order[key], ours, place))
    return {
        name: _fuse(name, [each[1:] for each in sorted(found)], state)
        for name, found in placed.items()
    }


def _place(table: Table, ours: str) -> tuple[str, Theirs]:
    """Look a parameter up, by its own name or its module's."""
    layer = LAYER.match(ours)
    general = LAYER.sub("blocks.#.", ours)
    module, _, leaf = general.rpartition(".")
    key = general if general in table else module
    assert key in table, f"the table has no place for {ours}"
    place = table[key]
    place = place if isinstance(place, Theirs) else Theirs(place)
    name = place.name if key == general else f"{place.name}.{leaf}"
    name = name.replace("#", layer[1]) if layer else name
    return key, replace(place, name=name)


def _fuse(
    name: str, parts: Sequence[tuple[str, Theirs]], state: Mapping[str, Tensor]
) -> list[Link]:
    """Lay the parts of a tensor one after the other."""
    assert len(parts) == 1 or all(place.fused for _, place in parts), f"two tensors for {name}"
    shapes = [tuple(state[ours].shape) for ours, _ in parts]
    rows = [shape[0] // place.groups for shape, (_, place) in zip(shapes, parts, strict=True)]
    place = parts[0][1]
    shape = (sum(rows) * place.groups, *shapes[0][1:])
    if place.transposed:
        shape = (*shape[:-2], *shape[-2:][::-1])
    return [
        Link(ours, name, shape, place, sum(rows[:i]), rows[i])
        for i, (ours, place) in enumerate(parts)
    ]
