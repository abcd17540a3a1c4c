"""The text of a record, for formats whose records have fields."""

from collections.abc import Iterator
from typing import Any

from gptlab.config import nearest
from gptlab.data.formats import Fragment, Reading
from gptlab.data.formats._documents import from_text


def text_of(record: Any, where: str, reading: Reading) -> Iterator[Fragment]:
    """Make fragments of a record's text; null is an empty one. `where` names it in an error."""
    if not isinstance(record, dict):
        yield from malformed(f"{where}: not an object with fields", reading)
        return
    check_column(reading.column, list(record), where)
    text = record[reading.column]
    if text is None:
        text = ""
    if isinstance(text, str):
        yield from from_text(text, where, reading.errors)
    else:
        kind = type(text).__name__
        yield from malformed(
            f"{where}: column {reading.column!r} holds no text but {kind}", reading
        )


def check_column(column: str, there: list[str], where: str) -> None:
    """Raise ValueError, saying which there are, if a column is missing."""
    if column not in there:
        known = ", ".join(there[:20]) or "none"
        raise ValueError(
            f"{where}: no column {column!r}{nearest(column, there)} (there are: {known}); "
            "choose one with --column"
        )


def malformed(problem: str, reading: Reading) -> Iterator[Fragment]:
    """Leave a record out that cannot be read, if that was asked for, or raise ValueError."""
    if reading.errors != "skip":
        raise ValueError(f"{problem} (--errors skip leaves it out)")
    yield Fragment("", wrong=True)
