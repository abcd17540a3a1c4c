"""The slots of a recipe, found by walking through its classes and the folders of variants."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from gptlab.config import Config, Part, find_variant, nearest, variant_names
from gptlab.train.recipe import Recipe


@dataclass(frozen=True)
class Slot:
    """The setting that fills a slot, its class, and what must be chosen for it to be there."""

    path: str
    kind: type[Part]
    beside: tuple[str, ...] = ()
    is_optional: bool = False

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.path.rpartition(".")[2]

    def choose(self, variant: str) -> list[str]:
        """Give the assignments that fill it with a variant."""
        return [*self.beside, f"{self.path}={variant}"]


def all_slots() -> dict[str, Slot]:
    """Find every slot of a recipe, by name.

    One that several settings hold goes by the first of them that is never null, if there is one,
    and one that only variants of another slot have by the first that is found.
    """
    found: dict[type[Part], Slot] = {}
    ahead = list(_slots_below(Recipe, "", ()))
    for slot in ahead:
        known = found.get(slot.kind)
        if known is None:
            for name in variant_names(slot.kind):
                variant = find_variant(slot.kind, name)
                ahead += _slots_below(variant, f"{slot.path}.", tuple(slot.choose(name)))
        if known is None or (known.is_optional and not slot.is_optional and not slot.beside):
            found.pop(slot.kind, None)  # slots stand in the order of a recipe
            found[slot.kind] = slot
    return {slot.name: slot for slot in found.values()}


def find_slot(name: str) -> Slot:
    """Find a slot by name; ValueError with the nearest name if there is none."""
    slots = all_slots()
    if name not in slots:
        known = ", ".join(slots)
        raise ValueError(f"no slot named {name!r}{nearest(name, list(slots))} (there are: {known})")
    return slots[name]


def _slots_below(config: type[Config], prefix: str, beside: tuple[str, ...]) -> Iterator[Slot]:
    for name, field in config.model_fields.items():
        for kind in _classes(field.annotation):
            if issubclass(kind, Part):
                yield Slot(prefix + name, kind, beside, is_optional=not field.is_required())
            elif issubclass(kind, Config):
                yield from _slots_below(kind, f"{prefix}{name}.", beside)


def _classes(annotation: Any) -> list[type]:
    """Take an annotation such as `Norm | None` apart."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [kind for inner in get_args(annotation) for kind in _classes(inner)]
