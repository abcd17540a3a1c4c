"""The settings of a `config.json`: typed as they are read, and none is passed over in silence."""

import json
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
D = TypeVar("D")

HARMLESS = (  # what changes nothing about what a model computes from weights and tokens
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "auto_map",  # remote code, which is never run
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


class Settings:
    """Settings by name; null counts as absent.

    place: what to call them in messages.
    """

    def __init__(self, tree: Mapping[str, Any], place: str):
        self.tree = {name: value for name, value in tree.items() if value is not None}
        self.place = place
        self.read: set[str] = set()

    def need(self, name: str, kind: type[T]) -> T:
        """Read a setting that must be there. For errors see `get`."""
        value = self.get(name, kind, None)
        if value is None:
            raise ValueError(f"{self.place}: {name} is missing")
        return value

    def get(self, name: str, kind: type[T], default: D, may_be_0: bool = False) -> T | D:
        """Read a setting that may be absent.

        Raises ValueError for another type, and for numbers that are not greater than 0: nearly all
        are sizes and factors.
        """
        self.read.add(name)
        value: Any = self.tree.get(name)
        if value is None:
            return default
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise ValueError(f"{self.place}: {name}={_shown(value)} is not of type {kind.__name__}")
        if kind in (int, float) and not _is_positive(self.tree[name], may_be_0):
            raise ValueError(f"{self.place}: {name}={value} is not greater than 0")
        return value

    def only(self, name: str, allowed: Collection[Any], default: Any = None) -> None:
        """Raise ValueError if a setting has a value that no part of ours computes."""
        self.read.add(name)
        value = self.tree.get(name, default)
        if value not in allowed:
            known = " or ".join(_shown(each) for each in allowed)
            raise ValueError(
                f"{self.place}: {name}={_shown(value)} has no part in gptlab; known is {known}"
            )

    def ignore(self, *names: str) -> None:
        """Take note of settings that change nothing here."""
        self.read.update(names)

    def refuse_unread(self) -> None:
        """Raise ValueError naming a setting that nobody has asked for."""
        unread = [name for name in self.tree if name not in self.read and name not in HARMLESS]
        if unread:
            name, more = unread[0], f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
            raise ValueError(
                f"{self.place}: {name}={_shown(self.tree[name])}{more} is not a setting that "
                "gptlab knows of this family; it may change what the model computes"
            )


def _is_positive(value: float, or_0: bool) -> bool:
    return value > 0 or (or_0 and value == 0)


def _shown(value: Any) -> str:
    """Write a value as JSON does, in short."""
    return json.dumps(value, ensure_ascii=False)[:60]
