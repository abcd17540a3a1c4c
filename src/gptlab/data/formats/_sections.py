"""Long documents are encoded in sections, cut at places that follow from their bytes alone.

A document's sections begin at or soon after every `SECTION` bytes: before the first white space
there that follows a letter or digit, where no tokenizer's pattern lets a word go on; if there is
none within `WINDOW` bytes, at a character. So any section can be found without reading those
before it, and a document without a space takes neither more memory nor more than linear time.
"""

import re
from collections.abc import Iterable, Iterator

SECTION = 2**20
WINDOW = 2**16
SEAM = re.compile(rb"[0-9A-Za-z\x80-\xff](?=[ \t\r\n])")
CHARACTER = 4  # bytes of the longest; a last section has as many at least


def sections(chunks: Iterable[bytes], at: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Cut what `chunks` hold of a document, from its byte `at` on, which begins a section.

    stop: the multiple of SECTION at which another reader goes on, if these are not all its bytes.
    """
    buffer = b""
    grid = at - at % SECTION + SECTION
    for chunk in chunks:
        buffer += chunk
        while at + len(buffer) > grid + WINDOW and (stop is None or grid < stop):
            cut = seam(buffer, grid - at)
            yield buffer[:cut]
            buffer, at, grid = buffer[cut:], at + cut, grid + SECTION
    while at + len(buffer) >= grid + CHARACTER and (stop is None or grid < stop):
        cut = seam(buffer, grid - at)
        yield buffer[:cut]
        buffer, at, grid = buffer[cut:], at + cut, grid + SECTION
    yield buffer


def seam(buffer: bytes, place: int) -> int:
    """Find where to cut, from `place` on."""
    if found := SEAM.search(buffer, place, place + WINDOW + 1):
        return found.end()
    for cut in range(place, place + CHARACTER):
        if buffer[cut] & 0xC0 != 0x80:
            return cut
    return place
