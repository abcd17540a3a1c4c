"""What docstrings and fields say of a variant: its idea, its papers, what its settings mean."""

import re
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from gptlab.config import Config, Part
from gptlab.show._print import plain

PAPER = re.compile(r"(?:arXiv:)?(\d{4}\.\d{5})")
LETTERS = re.compile(r"(?:^|\s)[A-Z] [a-z][^.,]*(?:,\s+[A-Z] [^.,]*)+\.?$")  # B batch, T tokens
NO_NEWS = re.compile(r"See the settings|Has no settings|No settings|The settings of")
WORDS = {bool: "true, false", int: "integer", float: "number", str: "text", type(None): "null"}


@dataclass(frozen=True)
class Setting:
    """A setting of a variant, as text."""

    name: str
    kind: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Sheet:
    """A variant: what it is in a line, more about it, and its settings. Texts are Markdown."""

    name: str
    brief: str
    more: str
    settings: list[Setting]


def read_sheet(variant: type[Part]) -> Sheet:
    """Read what there is to know of a variant."""
    brief, *body = read_document(variant.__module__).split("\n", 1)
    about, meanings = _meanings(variant)
    texts = [text.strip("\n") for text in (*body, about) if text.strip()]
    settings = [
        Setting(name, _kind(field.annotation), _default(field), link_papers(meanings.get(name, "")))
        for name, field in variant.model_fields.items()
    ]
    name = variant.__module__.rpartition(".")[2]
    return Sheet(name, link_papers(brief), link_papers("\n\n".join(texts)), settings)


def read_document(module: str) -> str:
    """Give a module's docstring without its legend of shape letters."""
    text = cleandoc(import_module(module).__doc__ or "")
    paragraphs = (LETTERS.sub("", paragraph) for paragraph in text.split("\n\n"))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def link_papers(text: str) -> str:
    """Make links of the numbers of papers."""
    return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _meanings(variant: type[Part]) -> tuple[str, dict[str, str]]:
    """Part the docstrings of a variant and of what it inherits from: a text for each setting."""
    names = "|".join(variant.model_fields) or "-"
    opening = re.compile(rf"(?:^|(?<=[.;]) )((?:`(?:{names})`(?:, | and )?)+):?")
    about, meanings = "", {}
    for kind in variant.__mro__:
        if kind in (Part, Config) or not issubclass(kind, Part):
            continue
        text = " ".join((kind.__dict__.get("__doc__") or "").split())
        before, *rest = opening.split(text)
        if kind is variant and not NO_NEWS.match(before):
            about = before.strip()
        for heading, meaning in zip(rest[::2], rest[1::2], strict=True):
            for name in re.findall(r"`(\w+)`", heading):
                meanings.setdefault(name, meaning.strip().removeprefix("is "))
    return about, meanings


def _kind(annotation: Any) -> str:
    """Name the values that a setting takes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if inner:
        return " or ".join(map(_kind, inner))
    if issubclass(annotation, Config):
        return annotation.__module__.rpartition(".")[2]
    return WORDS[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    return plain(default.model_dump(mode="json") if isinstance(default, Config) else default)
