"""Parquet, by pyarrow (extra: data). Of each row group only the column of the text is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptlab.data.extras import needed
from gptlab.data.formats import MAX_RECORD, PACKED, Format, Fragment, Reading, Span
from gptlab.data.formats._documents import from_sections
from gptlab.data.formats._records import check_column
from gptlab.data.formats._sections import sections

ROWS = 64  # decoded at a time


class Parquet(Format):
    """Spans count row groups."""

    suffixes = (".parquet",)

    def spans(self, path: Path, size: int, reading: Reading) -> list[tuple[Span, int]]:
        with _open(str(path)) as file:
            place = _column(file, reading.column, str(path))
            groups = range(file.metadata.num_row_groups)
            weights = [file.metadata.row_group(i).column(place) for i in groups]
            weights = [column.total_uncompressed_size for column in weights]
        found, start, weight = list[tuple[Span, int]](), 0, 0
        for i, more in enumerate(weights):
            weight += more
            if weight >= size or i + 1 == len(weights):
                found.append((Span("parquet", str(path), start, i + 1), weight))
                start, weight = i + 1, 0
        return found

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        with _open(span.path) as file:
            _column(file, reading.column, span.path)
            groups = range(span.start, span.stop or 0)
            where = f"{span.path}: a row of the row groups {span.start} and on"
            batches = file.iter_batches(ROWS, groups, [reading.column], use_threads=False)
            for batch in batches:
                for value in batch.column(0).cast("large_binary"):
                    content = value.as_py() or b""
                    if len(content) > MAX_RECORD:
                        raise ValueError(f"{where}: longer than {MAX_RECORD:,} bytes")
                    yield from from_sections(sections([content]), where, 0, reading.errors)


@contextmanager
def _open(path: str) -> Iterator[Any]:
    """Open a file; what is wrong with it becomes a ValueError naming it."""
    if path.lower().endswith(PACKED):
        raise ValueError(f"{path}: parquet has a compression of its own; unpack it first")
    parquet = needed("pyarrow.parquet", "data", f"{path} is a parquet file")
    arrow = needed("pyarrow", "data", path)
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            yield file
    except arrow.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged, cut short, or no parquet: {reason}") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:  # damaged pages
        raise ValueError(f"{path}: damaged or cut short: {error}") from None


def _column(file: Any, column: str, path: str) -> int:
    """Find the place of a column of text."""
    check_column(column, file.schema_arrow.names, path)
    kind = str(file.schema_arrow.field(column).type)
    if kind not in ("string", "large_string", "string_view", "binary", "large_binary"):
        raise ValueError(f"{path}: column {column!r} holds no text but {kind}")
    leaves = [file.schema.column(i).path for i in range(len(file.schema))]
    return leaves.index(column)
