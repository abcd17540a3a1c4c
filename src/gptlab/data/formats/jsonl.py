"""A JSON object per line; the text is one of its fields."""

import json
from collections.abc import Iterator
from pathlib import Path

from gptlab.data.formats import MAX_RECORD, Format, Fragment, Reading, Span
from gptlab.data.formats._records import malformed, text_of
from gptlab.data.formats._streams import bom_length, open_stream


class JsonLines(Format):
    """Spans count bytes: a line belongs where it begins."""

    suffixes = (".jsonl", ".ndjson")

    def spans(self, path: Path, size: int, reading: Reading) -> list[tuple[Span, int]]:
        n_bytes = path.stat().st_size
        return [
            (Span("jsonl", str(path), start, start + size), min(size, n_bytes - start))
            for start in range(0, max(1, n_bytes), size)
        ]

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        with open_stream(span.path) as stream:
            if span.start == 0:
                place = bom_length(stream)
            else:
                stream.seek(span.start - 1)
                place = span.start - 1
                while piece := stream.readline(MAX_RECORD):
                    place += len(piece)
                    if piece.endswith(b"\n"):
                        break
            while (span.stop is None or place < span.stop) and (
                line := stream.readline(MAX_RECORD)
            ):
                where = f"{span.path}: line at byte {place:,}"
                if len(line) == MAX_RECORD:
                    raise ValueError(f"{where}: longer than {MAX_RECORD:,} bytes")
                place += len(line)
                if line.strip():
                    yield from _document(line, where, reading)


def _document(line: bytes, where: str, reading: Reading) -> Iterator[Fragment]:
    try:
        record = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        yield from malformed(f"{where}: not JSON: {error}", reading)
    else:
        yield from text_of(record, where, reading)
