"""What a preparation will take, judged by a sample of its text, before it begins."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gptlab.data import formats
from gptlab.data.formats import Fragment, Reading, Span
from gptlab.data.formats._streams import Meter
from gptlab.data.preparation.part import FRAGMENT, encode
from gptlab.data.preparation.source import Piece, Source
from gptlab.data.prepared import DOCUMENT
from gptlab.tokenizer import Encoder

SAMPLE = 2**21  # bytes of text that are read, and
ENCODED = 2**17  # that are encoded, from each of
PLACES = (0.0, 0.5, 1.0)  # these places of the source
MARGIN = 1.1  # of the disk


@dataclass(frozen=True)
class Estimate:
    """`disk`: bytes at most at a time, with what is there until the shards are written."""

    documents: int
    text_bytes: int
    tokens: int
    disk: int
    seconds: float


def estimate(
    source: Source, reading: Reading, encoder: Encoder, itemsize: int, workers: int
) -> Estimate | None:
    """Read and encode a sample; None if the size of the source is not known."""
    size = sum(piece.size for piece in source.pieces)
    pieces = {round(place * (len(source.pieces) - 1)) for place in PLACES}
    samples = [_sample(source.pieces[number], reading, encoder) for number in sorted(pieces)]
    read, text, documents, tokens, seconds = np.sum(samples, axis=0)
    if size == 0 or text == 0:
        return None
    text_bytes = size * text / read
    n_tokens = text_bytes * tokens / text
    n_documents = max(1.0, text_bytes * documents / text)
    if reading.separator is None and all(
        s.format == "text" for p in source.pieces for s in p.spans
    ):
        n_documents = len(source.files) + source.tail
    records = n_documents * (FRAGMENT.itemsize + 2 * DOCUMENT.itemsize + 40)
    return Estimate(
        documents=round(n_documents),
        text_bytes=round(text_bytes),
        tokens=round(n_tokens),
        disk=round(MARGIN * (2 * itemsize * n_tokens + records)),
        seconds=text_bytes * seconds / text / workers,
    )


def check_disk(wanted: Estimate, out: Path, share_left: float) -> None:
    """Raise ValueError if the disk is too small for the share of the work that is left."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, int(wanted.disk * (1 + share_left) / 2)
    if free < needed:
        raise ValueError(
            f"--out={out}: about {needed / 1e9:,.1f} GB are needed until all is done, "
            f"{free / 1e9:,.1f} GB are free; choose another disk, or less text by --limit-docs"
        )


def _sample(
    piece: Piece, reading: Reading, encoder: Encoder
) -> tuple[float, int, int, float, float]:
    """Bytes of the source that were read, bytes of text, documents, tokens, seconds to encode."""
    before, text_bytes, documents = Meter.n_bytes, 0, 0
    texts, n_encoded, read = list[tuple[str, str]](), 0, piece.size
    for span, fragment in _fragments(piece, reading):
        text_bytes += len(fragment.text.encode())
        documents += fragment.last
        if n_encoded < ENCODED:
            part = fragment.text[: ENCODED - n_encoded]
            texts.append((span.path, part))
            n_encoded += len(part.encode())
        if text_bytes >= SAMPLE:
            is_plain = span.format in ("text", "parquet") and not span.path.endswith(formats.PACKED)
            read = text_bytes if is_plain else Meter.n_bytes - before
            break
    began = time.perf_counter()
    n_tokens = sum(map(len, encode(texts, encoder, special=False)))
    seconds = time.perf_counter() - began
    scale = text_bytes / max(1, n_encoded)
    return float(read), text_bytes, documents, n_tokens * scale, seconds * scale


def _fragments(piece: Piece, reading: Reading) -> Iterator[tuple[Span, Fragment]]:
    for span in piece.spans:
        for fragment in formats.fragments(span, reading):
            yield span, fragment
