"""A file of JSON: a list of objects, or objects one after the other. Read as a stream."""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, BinaryIO

from gptlab.data.formats import MAX_RECORD, Format, Fragment, Reading, Span
from gptlab.data.formats._records import text_of
from gptlab.data.formats._streams import bom_length, chunks, open_stream

BETWEEN = re.compile(r"[ \t\r\n,]*")
DECODER = JSONDecoder()


class Json(Format):
    """Whole files: where an object begins depends on all before it."""

    suffixes = (".json",)

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        with open_stream(span.path) as stream:
            for number, value in enumerate(_values(stream, span.path), 1):
                yield from text_of(value, f"{span.path}: object {number:,}", reading)


def _values(stream: BinaryIO, path: str) -> Iterator[Any]:
    """Decode the values of a list, or those that follow one another."""
    bom_length(stream)
    utf8 = getincrementaldecoder("utf-8")("surrogateescape")
    buffer, needed = "", 0
    opening, is_list = True, False
    for chunk in chunks(stream):
        buffer += utf8.decode(chunk)
        if opening:
            buffer = buffer.lstrip()
            opening, is_list = not buffer, buffer.startswith("[")
            buffer = buffer.removeprefix("[")
        if len(buffer) < needed:
            continue
        at = 0
        try:
            while (found := _value(buffer, at, path))[1] < len(buffer):
                yield found[0]
                at = found[1]
        except JSONDecodeError:  # it may go on in the next chunk
            pass
        buffer = buffer[at:]
        needed = 2 * len(buffer)  # looking again costs as much as what there is
        if needed > 2 * MAX_RECORD:
            raise ValueError(f"{path}: an object longer than {MAX_RECORD:,} bytes, or not JSON")
    yield from _last_values(buffer, is_list, path)


def _value(buffer: str, at: int, path: str) -> tuple[Any, int]:
    """Decode the value from `at` on, and tell where it ends."""
    start = BETWEEN.match(buffer, at)
    assert start is not None
    try:
        return DECODER.raw_decode(buffer, start.end())
    except JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # too long a number, too many brackets
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _last_values(buffer: str, is_list: bool, path: str) -> Iterator[Any]:
    """Decode what is left at the end of the file."""
    at = 0
    while buffer[at:].strip(" \t\r\n,]"):
        try:
            value, at = _value(buffer, at, path)
        except JSONDecodeError as error:
            raise ValueError(f"{path}: not JSON, or cut short: {error}") from None
        yield value
    if is_list and not buffer[at:].strip().endswith("]"):
        raise ValueError(f"{path}: cut short: its list has no end")
