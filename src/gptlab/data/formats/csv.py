"""Values separated by commas or tabs; the first row names the columns."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from gptlab.data.formats import MAX_RECORD, Format, Fragment, Reading, Span
from gptlab.data.formats._documents import from_sections
from gptlab.data.formats._records import check_column, malformed
from gptlab.data.formats._sections import sections
from gptlab.data.formats._streams import bom_length, open_stream


class Csv(Format):
    """Whole files: whether a line ends a row depends on the quotes before it."""

    suffixes = (".csv", ".tsv")

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        csv.field_size_limit(MAX_RECORD)
        delimiter = "\t" if ".tsv" in Path(span.path).suffixes else ","
        with open_stream(span.path) as stream:
            bom_length(stream)
            text = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
            rows = csv.reader(_lines(text, span.path), delimiter=delimiter, strict=True)
            try:
                yield from _documents(rows, span.path, reading)
            except csv.Error as error:
                raise ValueError(
                    f"{span.path}: line {rows.line_num:,}: damaged or cut short: {error}"
                ) from None


def _lines(text: io.TextIOWrapper, path: str) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_RECORD):
        number += 1
        if len(line) == MAX_RECORD:
            raise ValueError(f"{path}: line {number:,}: longer than {MAX_RECORD:,} characters")
        yield line


def _documents(rows: Iterator[list[str]], path: str, reading: Reading) -> Iterator[Fragment]:
    heading = next(rows, None)
    if heading is None:
        return
    check_column(reading.column, heading, path)
    place = heading.index(reading.column)
    for number, row in enumerate(rows, 2):
        where = f"{path}: row {number:,}"
        if len(row) > place:
            content = row[place].encode("utf-8", "surrogateescape")
            yield from from_sections(sections([content]), where, 0, reading.errors)
        elif row:
            yield from malformed(
                f"{where}: {len(row)} values, the column {reading.column!r} is number {place + 1}",
                reading,
            )
