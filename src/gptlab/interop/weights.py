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
    `stacked`: there is such a tensor for each expert, along a first axis of their number.
    `swapped`: the second half of each group lies before the first.
    """

    name: str
    transposed: bool = False
    fused: bool = False
    groups: int = 1
    stacked: bool = False
    swapped: bool = False


Table = dict[str, str | Theirs]


@dataclass(frozen=True)
class Link:
    """Rows of a parameter of ours, and the rows of a tensor of theirs that hold them.

    `shape`: of the whole tensor of theirs. `entry`: the expert, where theirs is stacked. `start`,
    `our_start`, `rows`: the rows of each group, there and here.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]
    transposed: bool
    groups: int
    start: int
    rows: int
    our_start: int = 0
    entry: int | None = None

    def part(self, theirs: Tensor) -> Tensor:
        """Their values of ours, grouped: (groups, rows, ...)."""
        one = theirs if self.entry is None else theirs[self.entry]
        lying = one.mT if self.transposed and one.ndim > 1 else one
        return lying.unflatten(0, (self.groups, -1)).narrow(1, self.start, self.rows)

    def whole(self, ours: Tensor) -> Tensor:
        """The rows of our parameter, grouped alike."""
        return ours.unflatten(0, (self.groups, -1)).narrow(1, self.our_start, self.rows)

    def halves(self) -> list["Link"]:
        """Link the first half of ours to the second one of theirs, and the other way round."""
        half = self.rows // 2
        return [
            replace(self, rows=half, start=self.start + half),
            replace(self, rows=half, our_start=half),
        ]


@dataclass(frozen=True)
class Placed:
    """A parameter of ours and where it goes; `order`: its place in the table."""

    order: int
    ours: str
    place: Theirs
    entry: int | None


def connect(table: Table, state: Mapping[str, Tensor]) -> dict[str, list[Link]]:
    """Find the place of every parameter of ours, by the names of theirs."""
    order = {name: i for i, name in enumerate(table)}
    tensors: dict[str, dict[int | None, list[Placed]]] = {}
    for ours in state:
        found = _place(table, order, ours)
        entries = tensors.setdefault(found.place.name, {})
        entries.setdefault(found.entry, []).append(found)
    return {name: _stack(name, entries, state) for name, entries in tensors.items()}


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
    entry = int(expert[1]) if expert and place.stacked else None
    return Placed(order[key], ours, replace(place, name=name), entry)


def _stack(
    name: str, entries: Mapping[int | None, list[Placed]], state: Mapping[str, Tensor]
) -> list[Link]:
    """Lay the experts of a tensor one after the other, if it has any."""
    if None in entries:
        return _fuse(name, entries[None], state)
    links = [link for found in entries.values() for link in _fuse(name, found, state)]
    return [replace(link, shape=(len(entries), *link.shape)) for link in links]


def _fuse(name: str, found: Sequence[Placed], state: Mapping[str, Tensor]) -> list[Link]:
    """Lay the parts of a tensor one after the other."""
    parts = sorted(found, key=lambda part: part.order)
    assert len(parts) == 1 or all(part.place.fused for part in parts), f"two tensors for {name}"
    place, entry = parts[0].place, parts[0].entry
    shapes = [tuple(state[part.ours].shape) for part in parts]
    rows = [shape[0] // place.groups for shape in shapes]
    shape = (sum(rows) * place.groups, *shapes[0][1:])
    if place.transposed:
        shape = (*shape[:-2], *shape[-2:][::-1])
    links = [
        Link(
            part.ours, name, shape, place.transposed, place.groups, sum(rows[:i]), rows[i], 0, entry
        )
        for i, part in enumerate(parts)
    ]
    return [half for link in links for half in link.halves()] if place.swapped else links
