"""The source: what files there are, and the pieces that they are cut into.

Pieces follow from the names and sizes of the files alone: small files share one, large ones are
cut where their format allows it.
"""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gptlab.data import formats
from gptlab.data.formats import Reading, Span, hub
from gptlab.data.formats._sections import SECTION
from gptlab.data.formats._streams import bom_length
from gptlab.data.formats.text import cut_near, document_spans
from gptlab.data.sources._files import LOOK, files_below

SMALLEST, LARGEST = 2 * SECTION, 64 * SECTION  # bytes of a piece that can be cut
PIECES = 1024  # about so many, between these sizes
MOST_SPANS = 1000  # small files in a piece


@dataclass(frozen=True)
class Piece:
    """What is done at a time. `size`: bytes of the source, 0 if not known."""

    number: int
    spans: tuple[Span, ...]
    size: int


@dataclass(frozen=True)
class Source:
    """`given`: as the user wrote it. `left_out`: files of a folder that are not text.

    `tail`: whether the only document was cut in two, the second part for validation.
    """

    given: str
    files: list[Path]
    left_out: int
    pieces: list[Piece]
    tail: bool

    def stamps(self) -> list[list[str | int]]:
        """What would tell that a file has changed."""
        return [
            [str(file), status.st_size, status.st_mtime_ns]
            for file, status in ((file, file.stat()) for file in self.files)
        ]


def open_source(given: str, reading: Reading, val_fraction: float | None) -> Source:
    """Find the files of a source and cut them into pieces. Raises ValueError if there are none.

    val_fraction: what part of a lone document is its second part; None: do not cut it in two.
    """
    if given.startswith(hub.PREFIX):
        pieces = _pieces(hub.spans(given), SMALLEST)
        return Source(given, hub.local_files(given), 0, pieces, False)
    files, left_out = find_files(given)
    total = sum(file.stat().st_size for file in files)
    if total == 0:
        raise ValueError(f"{given}: empty")
    size = min(LARGEST, max(SMALLEST, total // PIECES // SECTION * SECTION))
    tail = val_fraction is not None and _is_one_document(files, reading)
    if tail:
        spans = _two_documents(files[0], size, val_fraction or 0)
    else:
        spans = [found for file in files for found in formats.spans(file, size, reading)]
    return Source(given, files, left_out, _pieces(spans, size), tail)


def find_files(given: str) -> tuple[list[Path], int]:
    """Find the files that a file, folder or glob stands for, and how many are left out.

    A folder's hidden files, symbolic links, and files that are not text, are left out.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        found = files_below(path)
        files = [file for file in found if formats.name_for(file) != "text" or _may_be_text(file)]
        if not files:
            raise ValueError(f"{given}: no text in this folder")
        return files, len(found) - len(files)
    if path.exists():
        return [path], 0
    if not glob.has_magic(given):
        raise ValueError(f"{given}: no such file or folder")
    matches = (Path(match) for match in glob.glob(str(path), recursive=True))
    files = sorted(match for match in matches if match.is_file())
    if not files:
        raise ValueError(f"{given}: no file has such a name")
    return files, 0


def _may_be_text(file: Path) -> bool:
    if file.suffix.lower() in formats.PACKED:
        return True
    with file.open("rb") as opened:
        return b"\0" not in opened.read(LOOK)


def _is_one_document(files: list[Path], reading: Reading) -> bool:
    (file, *others) = files
    is_plain = formats.name_for(file) == "text" and file.suffix.lower() not in formats.PACKED
    return not others and is_plain and reading.separator is None


def _two_documents(file: Path, size: int, val_fraction: float) -> list[tuple[Span, int]]:
    end = file.stat().st_size
    with file.open("rb") as opened:
        begin = bom_length(opened)
    cut = cut_near(file, end, begin + int((end - begin) * (1 - val_fraction)))
    return document_spans(file, begin, cut, size) + document_spans(file, cut, end, size)


def _pieces(spans: list[tuple[Span, int]], size: int) -> list[Piece]:
    return [
        Piece(number, tuple(span for span, _ in group), sum(n for _, n in group))
        for number, group in enumerate(_groups(spans, size))
    ]


def _groups(spans: list[tuple[Span, int]], size: int) -> Iterator[list[tuple[Span, int]]]:
    """Put spans that follow one another together, as long as they are smaller than a piece."""
    group: list[tuple[Span, int]] = []
    for span, n_bytes in spans:
        full = len(group) == MOST_SPANS or sum(n for _, n in group) + n_bytes > size
        if group and (full or (n_bytes == 0 and span.format == "hub")):
            yield group
            group = []
        group.append((span, n_bytes))
    if group:
        yield group
