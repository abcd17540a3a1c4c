"""Plain text, of any suffix that no other format has: a file is a document.

With a separator, documents are what stands between its occurrences; those without a character are
counted as empty, but for one at the end of a file.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from gptlab.data.formats import PACKED, Format, Fragment, Reading, Span
from gptlab.data.formats._documents import from_sections
from gptlab.data.formats._sections import CHARACTER, SECTION, WINDOW, seam, sections
from gptlab.data.formats._streams import CHUNK, bom_length, chunks, open_stream


class Text(Format):
    """Spans count bytes: of the document, or of a file with documents that begin there."""

    def spans(self, path: Path, size: int, reading: Reading) -> list[tuple[Span, int]]:
        n_bytes = path.stat().st_size
        if reading.separator is None:
            with path.open("rb") as file:
                return document_spans(path, bom_length(file), n_bytes, size)
        if _overlaps_itself(reading.separator):  # then where it occurs depends on all before
            size = max(size, n_bytes)
        starts = range(0, max(1, n_bytes), size)
        return [
            (Span("text", str(path), start, start + size), min(size, n_bytes - start))
            for start in starts
        ]

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        with open_stream(span.path) as stream:
            if reading.separator is not None:
                yield from _separated(stream, span, reading)
            elif Path(span.path).suffix.lower() in PACKED:
                bom = bom_length(stream)
                cut = sections(chunks(stream))
                yield from from_sections(cut, span.path, bom, reading.errors)
            else:
                yield from _part_of_document(stream, span, reading)


def document_spans(path: Path, begin: int, end: int, size: int) -> list[tuple[Span, int]]:
    """Cut the document that the bytes `begin` to `end` of a file are into spans."""
    assert size % SECTION == 0
    starts = range(0, max(1, end - begin), size)
    return [
        (Span("text", str(path), start, start + size, begin, end), min(size, end - begin - start))
        for start in starts
    ]


def cut_near(path: Path, end: int, place: int) -> int:
    """Find where a document that ends at byte `end` of a file can be cut, from `place` on."""
    if place + CHARACTER > end:
        return end
    with path.open("rb") as file:
        file.seek(place)
        return place + seam(file.read(min(WINDOW + 1, end - place)), 0)


def _part_of_document(stream: BinaryIO, span: Span, reading: Reading) -> Iterator[Fragment]:
    assert span.stop is not None
    assert span.end is not None
    path, end = Path(span.path), span.end

    def cut(grid: int) -> int:
        at = span.begin + grid
        return at if grid == 0 else cut_near(path, end, at)

    start, stop = cut(span.start), cut(span.stop)
    if start == stop and span.start > 0:  # the last section would be too short: there is none
        return
    stream.seek(start)
    ends = stop == end
    limit = None if ends else span.stop
    yield from from_sections(
        sections(chunks(stream, stop - start), start - span.begin, limit),
        span.path,
        start,
        reading.errors,
        begins=span.start == 0,
        ends=ends,
    )


def _separated(stream: BinaryIO, span: Span, reading: Reading) -> Iterator[Fragment]:
    assert reading.separator is not None
    events = _records(stream, reading.separator.encode(), span.start, span.stop)
    for place in events:
        assert isinstance(place, int)
        content = iter(partial(next, events), None)
        cut = sections(chunk for chunk in content if isinstance(chunk, bytes))
        yield from from_sections(cut, span.path, place, reading.errors)


def _records(
    stream: BinaryIO, separator: bytes, start: int, stop: int | None
) -> Iterator[int | bytes | None]:
    """Read the records that begin in a span: of each its place, its bytes in pieces, None."""
    if start == 0:
        place = bom_length(stream)
    else:
        stream.seek(start - len(separator))
        found = _skip_behind(stream, separator)
        if found is None:
            return
        place = start - len(separator) + found
        stream.seek(place)
    buffer, at = stream.read(CHUNK), 0  # `at`: where the record goes on in the buffer
    while (stop is None or place < stop) and at < len(buffer):
        yield place
        while (found := buffer.find(separator, at)) < 0:
            kept = max(at, len(buffer) - len(separator) + 1)
            more = stream.read(CHUNK)
            if not more:
                yield buffer[at:]
                yield None
                return
            yield buffer[at:kept]
            place += kept - at
            buffer, at = buffer[kept:] + more, 0
        yield buffer[at:found]
        yield None
        place += found - at + len(separator)
        at = found + len(separator)
        if at == len(buffer):
            buffer, at = stream.read(CHUNK), 0


def _skip_behind(stream: BinaryIO, separator: bytes) -> int | None:
    """How many bytes after the stream's place the first separator ends; None without one."""
    read, buffer = 0, b""
    for chunk in chunks(stream):
        buffer += chunk
        found = buffer.find(separator)
        if found >= 0:
            return read + found + len(separator)
        kept = max(0, len(buffer) - len(separator) + 1)
        read, buffer = read + kept, buffer[kept:]
    return None


def _overlaps_itself(separator: str) -> bool:
    content = separator.encode()
    return any(content[:n] == content[-n:] for n in range(1, len(content)))
