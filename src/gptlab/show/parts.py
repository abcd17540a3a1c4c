"""`gptlab parts`: every slot, its variants and their settings, read from the folders."""

from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from typing import Any, get_args

from pydantic.fields import FieldInfo

from gptlab.config import Config, Part, find_variant, nearest, variant_names
from gptlab.show._print import plain, print_table
from gptlab.train.recipe import Recipe


def parts(slot: str | None = None) -> None:
    """Print all slots in brief, or one with its full descriptions."""
    slots = all_slots()
    if slot is not None and slot not in slots:
        known = ", ".join(slots)
        raise ValueError(f"no slot named {slot!r}{nearest(slot, list(slots))} (there are: {known})")
    for name in [slot] if slot else slots:
        path, kind = slots[name]
        print_table(
            f"{path}\n{_document(kind.__module__, brief=True)}",
            ["variant", "settings", "what it is"],
            [_row(kind, variant, brief=slot is None) for variant in variant_names(kind)],
        )


def all_slots() -> dict[str, tuple[str, type[Part]]]:
    """Find every slot of a recipe: its name, and the setting that fills it with its class.

    A slot that only variants of another one have goes by the first setting that is found.
    """
    found: dict[type[Part], str] = {}
    ahead = list(_slots_below(Recipe, ""))
    for path, slot in ahead:
        if slot not in found:
            found[slot] = path
            for name in variant_names(slot):
                ahead += _slots_below(find_variant(slot, name), f"{path}.")
    return {path.rpartition(".")[2]: (path, slot) for slot, path in found.items()}


def _slots_below(config: type[Config], prefix: str) -> Iterator[tuple[str, type[Part]]]:
    for name, field in config.model_fields.items():
        for kind in _classes(field.annotation):
            if issubclass(kind, Part):
                yield prefix + name, kind
            elif issubclass(kind, Config):
                yield from _slots_below(kind, f"{prefix}{name}.")


def _classes(annotation: Any) -> list[type]:
    """Take an annotation such as `Norm | None` apart."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [kind for inner in get_args(annotation) for kind in _classes(inner)]


def _row(slot: type[Part], name: str, brief: bool) -> list[str]:
    variant = find_variant(slot, name)
    settings = [f"{key} = {_default(field)}" for key, field in variant.model_fields.items()]
    text = _document(variant.__module__, brief)
    if not brief:
        text += f"\n\n{cleandoc(variant.__doc__ or '')}\n"
    return [name, "\n".join(settings), text]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    default = field.default
    return plain(default.model_dump(mode="json") if isinstance(default, Config) else default)


def _document(module: str, brief: bool) -> str:
    text = cleandoc(import_module(module).__doc__ or "")
    return text.splitlines()[0] if brief else text
