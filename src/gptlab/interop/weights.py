"""Which tensor of theirs holds which of ours: one table, used in both directions.

A table maps our module (or parameter) to theirs, with `#` for the number of a layer and `*` for
that of an expert. A tensor of theirs may lie transposed, or hold several of ours. Connecting gives
views, so that reading copies theirs into ours and writing copies ours into theirs, without a third
tensor.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

LAYER = re.compile(r"^blocks\.(\d+)\.")
EXPERT = re.compile(r"\.experts\.(\d+)\.")


@dataclass(frozen=True)
class Theirs:
    """A place for a module of ours.

    `transposed`: matrices lie (in, out), as GPT-2's. `fused`: those of the same name lie one after
    the other along the rows, in the table's order, in each of so many `groups` (GPT-NeoX: heads).
    `turned`: the halves of the rows of each of so many heads change places (nanochat).
    `stacked`: there is such a tensor for each expert, along a first axis of their number.
    """

    name: str
    transposed: bool = False
    fused: bool = False
    groups: int = 1
    turned: int = 0
    stacked: bool = False


Table = dict[str, str | Theirs]


@dataclass(frozen=True)
class Link:
    """A parameter of ours, and the rows of a tensor of theirs that hold it.

    `shape`: of the whole tensor of theirs. `start`, `rows`: the part of each group that is ours.
    `expert`: whose, where theirs is stacked. For the rest see `Theirs`.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]
    place: Theirs
    start: int
    rows: int
    expert: int | None

    def read(self, ours: Tensor, theirs: Tensor) -> None:
        """Copy theirs into ours."""
        self._grouped(ours).copy_(self._turned(self._part(theirs)))

    def write(self, ours: Tensor, theirs: Tensor) -> None:
        """Copy ours into theirs."""
        self._part(theirs).copy_(self._turned(self._grouped(ours)))

    @property
    def lies_alike(self) -> bool:
        """Whether both are the same tensor."""
        place = self.place
        return not (place.transposed or place.fused or place.turned or place.stacked)

    def _part(self, theirs: Tensor) -> Tensor:
        one = theirs if self.expert is None else theirs[self.expert]
        lying = one.mT if self.place.transposed and one.ndim > 1 else one
        return self._grouped(lying).narrow(1, self.start, self.rows)

    def _grouped(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.place.groups, -1))

    def _turned(self, grouped: Tensor) -> Tensor:
        if not self.place.turned:
            return grouped
        halves = grouped.unflatten(1, (self.place.turned, 2, -1))
        return halves.flip(2).flatten(1, 3)


@dataclass(frozen=True)
class Placed:
    """A parameter of ours, and where it goes; `order`: its place in the table."""

    ours: str
    place: Theirs
    order: int
    expert: int | None


def connect(table: Table, state: Mapping[str, Tensor]) -> dict[str, list[Link]]:
    """Find the place of every parameter of ours, by the names of theirs."""
    order = {name: i for i, name in enumerate(table)}
    tensors: dict[str, dict[int | None, list[Placed]]] = {}
    for ours in state:
        placed = _place(table, order, ours)
        experts = tensors.setdefault(placed.place.name, {})
        experts.setdefault(placed.expert, []).append(placed)
    return {name: _stack(experts, state) for name, experts in tensors.items()}


def _place(table: Table, order: Mapping[str, int], ours: str) -> Placed:
    """Look a parameter up, by its own name or its module's."""
    layer, expert = LAYER.match(ours), EXPERT.search(ours)
    general = EXPERT.sub(".experts.*.", LAYER.sub("blocks.#.", ours))
    module, _, leaf = general.rpartition(".")
    key = general if general in table else module
    assert key in table, f"the table has no place for {ours}"
    place = table[key]
    place = place if isinstance(place, Theirs) else Theirs(place)
    name = place.name if key == general else f"{place.name}.{leaf}"
    name = name.replace("#", layer[1]) if layer else name
    name = name.replace("*", expert[1]) if expert else name
    number = int(expert[1]) if expert and place.stacked else None
    return Placed(ours, replace(place, name=name), order[key], number)


def _stack(experts: Mapping[int | None, list[Placed]], state: Mapping[str, Tensor]) -> list[Link]:
    """Lay the experts of a tensor one after the other, where it has any."""
    links = [link for parts in experts.values() for link in _fuse(parts, state)]
    if None in experts:
        return links
    return [replace(link, shape=(len(experts), *link.shape)) for link in links]


def _fuse(placed: Sequence[Placed], state: Mapping[str, Tensor]) -> list[Link]:
    """Lay the parts of a tensor one after the other."""
    parts = sorted(placed, key=lambda part: part.order)
    place = parts[0].place
    assert len(parts) == 1 or all(part.place.fused for part in parts), f"two for {place.name}"
    shapes = [tuple(state[part.ours].shape) for part in parts]
    rows = [shape[0] // place.groups for shape in shapes]
    shape = (sum(rows) * place.groups, *shapes[0][1:])
    if place.transposed:
        shape = (*shape[:-2], *shape[-2:][::-1])
    return [
        Link(part.ours, place.name, shape, part.place, sum(rows[:i]), rows[i], part.expert)
        for i, part in enumerate(parts)
    ]
