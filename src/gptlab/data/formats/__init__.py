"""Formats of source files: how documents are read, as a stream, whatever the size of the file.

A file of this folder without a leading `_` is a format. It says which suffixes it reads, cuts a
file into spans that can be read apart from one another, and reads a span. `text` reads what no
other format does. Behind any suffix may stand `.gz` or `.zst`; a compressed file is one span.

A document comes as one fragment or, if it is longer than `_sections.SECTION`, as several. Memory
is bounded by the size of a fragment; formats that hold whole records (all but plain text) refuse
one that is larger than `MAX_RECORD`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import ClassVar, Literal, NamedTuple

Errors = Literal["strict", "replace", "skip"]

PACKED = (".gz", ".zst")
MAX_RECORD = 2**28  # bytes


@dataclass(frozen=True)
class Reading:
    """How documents are read.

    `column`: the field that holds the text, in formats that have fields. `separator`: what stands
    between documents in files of plain text; None: a file is a document. `errors`: what is done
    about bytes that are not UTF-8, and NULs: `strict` raises ValueError, `replace` puts U+FFFD
    there, `skip` leaves the document out.
    """

    column: str = "text"
    separator: str | None = None
    errors: Errors = "strict"


@dataclass(frozen=True)
class Span:
    """A part of a file. What `start` and `stop` count is the format's own; None is the end.

    `begin` and `end`: the bytes of a file of plain text that make up the document at hand.
    """

    format: str
    path: str
    start: int = 0
    stop: int | None = None
    begin: int = 0
    end: int | None = None


class Fragment(NamedTuple):
    """A document, or a part of it between its `first` and its `last` one.

    `wrong`: it was not UTF-8 text. What is wrong and without text is to be left out.
    """

    text: str
    first: bool = True
    last: bool = True
    wrong: bool = False


class Format(ABC):
    """What a file of this folder defines."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def spans(self, path: Path, size: int, reading: Reading) -> list[tuple[Span, int]]:
        """Cut a file that is not compressed, into spans of about `size` bytes, given with each.

        They follow from the file alone.
        """
        return [(whole(path), path.stat().st_size)]

    @abstractmethod
    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        """Read a span. Raises ValueError naming the file for what cannot be read."""


def whole(path: Path) -> Span:
    """The span that is a whole file."""
    return Span(name_for(path), str(path))


def spans(path: Path, size: int, reading: Reading) -> list[tuple[Span, int]]:
    """Cut any file into spans of about `size` bytes, given with each."""
    if path.suffix.lower() in PACKED:
        return [(whole(path), path.stat().st_size)]
    return find(name_for(path)).spans(path, size, reading)


def fragments(span: Span, reading: Reading) -> Iterator[Fragment]:
    """Read a span of any format."""
    return find(span.format).fragments(span, reading)


def name_for(path: Path) -> str:
    """Choose a format by the suffix before that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    return next((name for name in names() if suffix in find(name).suffixes), "text")


@cache
def names() -> list[str]:
    """Name the formats: the files of this folder, but for private helpers."""
    return [file.name for file in iter_modules(__path__) if not file.name.startswith("_")]


@cache
def find(name: str) -> Format:
    """Import a format by the name of its file."""
    module = import_module(f"{__name__}.{name}")
    (found,) = (
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Format)
        and item.__module__ == module.__name__
    )
    return found()
