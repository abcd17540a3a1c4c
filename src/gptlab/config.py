"""Configs: frozen typed trees, written in Python, stored as YAML, changed with `a.b=value`.

A `Config` is a group of settings. A `Part` is a config whose variant is chosen by the name of a
file: the folder is the registry, nothing is listed anywhere.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gptlab.plain_yaml import dump_yaml, load_yaml


class Config(BaseModel):
    """A group of settings. Unknown names and wrong types are errors; instances never change."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        coerce_numbers_to_str=True,  # `name=2` is a name
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for name in data:
                if name not in cls.model_fields:
                    known = list(cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_setting", "{text}", {"text": _unknown("setting", name, known)}
                    )
        return data

    def to_yaml(self) -> str:
        """Write the whole tree, every default included."""
        return dump_yaml(self.model_dump(mode="json"))

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Read what `to_yaml` wrote. Raises ValueError naming the setting that is wrong."""
        return cls.parse(load_yaml(text))

    @classmethod
    def parse(cls, tree: Any) -> Self:
        """Validate a plain tree; every problem becomes one line of one ValueError."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ValueError(_explain(error)) from None

    def but(self, **settings: Any) -> Self:
        """Return a copy with these settings changed."""
        unchanged = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(unchanged | settings)

    def override(self, assignments: Sequence[str]) -> Self:
        """Return a copy with `path.to.setting=value` assignments applied in order.

        A leading `--` is accepted. Naming another variant of a part resets that part's settings.
        """
        tree = self.model_dump(mode="json")
        for assignment in assignments:
            path, separator, value = assignment.removeprefix("--").partition("=")
            if not path or not separator:
                raise ValueError(f"{assignment!r} is not of the form path.to.setting=value")
            try:
                _assign(tree, path.split("."), load_yaml(value))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        return self.parse(tree)


class Part(Config):
    """A swappable part. The folder is the registry.

    A slot, such as `Attention`, is a subclass defined in a package's `__init__.py`; each other
    file of that package holds one variant, and the file's name is the variant's name.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _choose_variant(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(data, str):
            data = {"type": data}
        if isinstance(data, Mapping) and "type" in data:
            settings = {name: value for name, value in data.items() if name != "type"}
            try:
                variant = find_variant(cls, data["type"])
            except ValueError as error:
                raise PydanticCustomError(
                    "unknown_variant", "{text}", {"text": str(error)}
                ) from None
            return cast(Self, variant.model_validate(settings))
        if _is_slot(cls) and not isinstance(data, cls):
            known = ", ".join(variant_names(cls))
            raise PydanticCustomError(
                "no_variant", "{text}", {"text": f"needs a `type`, one of: {known}"}
            )
        return handler(data)

    @model_serializer
    def _name_variant(self) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        return {"type": self.variant, **settings}

    @property
    def variant(self) -> str:
        """The variant's name: the name of the file that defines it."""
        return type(self).__module__.rpartition(".")[2]


P = TypeVar("P", bound=Part)


def variant_names(slot: type[Part]) -> list[str]:
    """Name every variant of a slot: every file of its folder, but for private helpers."""
    files = iter_modules(import_module(slot.__module__).__path__)
    return sorted(file.name for file in files if not file.name.startswith("_"))


def find_variant(slot: type[P], name: Any) -> type[P]:
    """Import a variant by name; ValueError with the nearest name if there is none."""
    if not _is_slot(slot):  # a variant asked for by its own class: only its own name fits
        slot = _slot_of(slot)
    if name not in variant_names(slot):
        kind = slot.__module__.rpartition(".")[2]
        raise ValueError(_unknown(f"{kind} variant", name, variant_names(slot)))
    module = import_module(f"{slot.__module__}.{name}")
    return next(
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, slot) and item.__module__ == module.__name__
    )


def differences(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """List the settings in which two configs differ, as (path, value in a, value in b)."""
    left, right = _leaves(a.model_dump(mode="json")), _leaves(b.model_dump(mode="json"))
    paths = list(left) + [path for path in right if path not in left]
    absent = "(no such setting)"
    return [
        (path, left.get(path, absent), right.get(path, absent))
        for path in paths
        if left.get(path, absent) != right.get(path, absent)
    ]


def nearest(name: str, known: Sequence[str]) -> str:
    """Phrase a suggestion: `; did you mean 'x'?`, or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(kind: str, name: Any, known: Sequence[str]) -> str:
    name = str(name)[:80]
    return f"no {kind} named {name!r}{nearest(name, known)} (there are: {', '.join(known)})"


def _is_slot(part: type[Part]) -> bool:
    return hasattr(import_module(part.__module__), "__path__")


def _slot_of(variant: type[P]) -> type[P]:
    bases = (base for base in variant.__mro__[1:] if issubclass(base, Part) and _is_slot(base))
    return cast(type[P], next(bases))


def _assign(tree: dict[str, Any], path: list[str], value: Any) -> None:
    node: Any = tree
    for depth, name in enumerate(path[:-1]):
        _check_group(node, path[:depth])
        key = _key(node, name)
        child = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        if child is None or isinstance(child, str):
            # a part named just before, as in `model.attention=grouped_query`, or none so far
            child = node[key] = {} if child is None else {"type": child}
        node = child
    _check_group(node, path[:-1])
    if path[-1] == "type" in node:  # another variant: nothing of the old one's settings stays
        node.clear()
    node[_key(node, path[-1])] = value


def _check_group(node: Any, path: list[str]) -> None:
    if not isinstance(node, list | dict):
        raise ValueError(f"{'.'.join(path)} has no settings of its own")


def _key(node: Any, name: str) -> Any:
    if isinstance(node, list):
        if not name.isdecimal() or int(name) >= len(node):
            raise ValueError(f"{name!r} must be a number below {len(node)}")
        return int(name)
    if node and "type" not in node and name not in node:
        raise ValueError(_unknown("setting", name, list(node)))
    return name


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        below = [_leaves(value, f"{path}.{name}" if path else name) for name, value in tree.items()]
        return {key: value for leaves in below for key, value in leaves.items()}
    return {path: tree}


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        path = ".".join(str(step) for step in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        given = problem["input"]
        shown = "" if isinstance(given, Mapping) or given is None else f" (got {str(given)[:80]!r})"
        known = problem["type"] in ("unknown_setting", "unknown_variant", "no_variant")
        lines.append(f"{path}: {message}{'' if known else shown}".removeprefix(": "))
    return "\n".join(lines)
