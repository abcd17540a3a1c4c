"""A part: the tokens of a piece, on the disk, whole or not there.

`NNNNNNNN.tokens` holds ids, `NNNNNNNN.fragments` a record for each fragment of a document, and
`NNNNNNNN.json`, which comes last, the sizes and sha256 of both.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from gptlab import files
from gptlab.data import formats
from gptlab.data.formats import Fragment, Reading
from gptlab.data.preparation.source import Piece
from gptlab.tokenizer import Encoder

FRAGMENT = np.dtype([("digest", "<u8", 2), ("tokens", "<u4"), ("bytes", "<u4"), ("flags", "u1")])
FIRST, LAST, WRONG, LEFT_OUT = 1, 2, 4, 8  # flags
BATCH_BYTES, BATCH_FRAGMENTS = 2**20, 1024  # what is encoded at a time


@dataclass(frozen=True)
class Work:
    """What determines a part, beside its piece, and where it goes."""

    folder: str
    reading: Reading
    special_tokens: bool
    dtype: str
    beginning: tuple[int, ...]
    ending: tuple[int, ...]
    limit_documents: int | None


class Progress(NamedTuple):
    """What was done since the last one."""

    documents: int
    tokens: int
    bytes: int


class Mark(BaseModel):
    """The content of NNNNNNNN.json. `documents`: how many end here and are not left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    documents: int
    tokens: int
    bytes: int
    fragments: int
    tokens_sha256: str
    fragments_sha256: str


class Part(NamedTuple):
    """The files of a part."""

    folder: Path
    number: int

    def path(self, kind: str) -> Path:
        return self.folder / f"{self.number:08}.{kind}"

    def mark(self, itemsize: int) -> Mark | None:
        """Read the mark of a part that is there with the right sizes, else None."""
        try:
            mark = Mark.model_validate_json(self.path("json").read_bytes())
            sizes = {
                "tokens": mark.tokens * itemsize,
                "fragments": mark.fragments * FRAGMENT.itemsize,
            }
            return mark if all(files.size(self.path(k)) == n for k, n in sizes.items()) else None
        except (OSError, ValidationError, ValueError):
            return None


def make_part(work: Work, piece: Piece, encoder: Encoder, tell: Callable[[Progress], None]) -> Mark:
    """Read and tokenize a piece. A part that is there already stays as it is."""
    part = Part(Path(work.folder), piece.number)
    with Writer(part, np.dtype(work.dtype)) as writer:
        for batch in _batches(_fragments(work, piece)):
            texts = [(path, fragment.text) for path, fragment in batch]
            ids = encode(texts, encoder, work.special_tokens)
            before = (writer.documents, writer.tokens, writer.bytes)
            writer.add([fragment for _, fragment in batch], ids, work)
            now = (writer.documents, writer.tokens, writer.bytes)
            tell(Progress(*(b - a for a, b in zip(before, now, strict=True))))
        return writer.finish()


class Writer:
    """Writes under names of its own, until all is done."""

    def __init__(self, part: Part, dtype: np.dtype):
        self.part, self.dtype = part, dtype
        self.documents = self.tokens = self.bytes = self.fragments = 0
        self.open: dict[str, tuple[Path, BinaryIO]] = {}
        self.digests = {"tokens": sha256(), "fragments": sha256()}

    def __enter__(self) -> Self:
        for kind in self.digests:
            path = self.part.folder / files.temporary_name(self.part.path(kind).name)
            self.open[kind] = (path, path.open("wb"))
        return self

    def __exit__(self, *exception: object) -> None:
        for path, file in self.open.values():
            with suppress(OSError):  # a full disk refuses again what it refused before
                file.close()
            path.unlink(missing_ok=True)

    def add(self, found: list[Fragment], ids: list[np.ndarray], work: Work) -> None:
        """Write fragments and their tokens; a beginning and an ending stand around a document."""
        begin, end = np.array(work.beginning, self.dtype), np.array(work.ending, self.dtype)
        records, tokens = np.zeros(len(found), FRAGMENT), list[np.ndarray]()
        for i, (fragment, its_ids) in enumerate(zip(found, ids, strict=True)):
            content = fragment.text.encode("utf-8")
            left_out = fragment.wrong and not content
            parts = [begin] * fragment.first + [its_ids.astype(self.dtype)] + [end] * fragment.last
            n_tokens = sum(map(len, parts))
            records[i] = (digest(content), n_tokens, len(content), _flags(fragment, left_out))
            tokens += parts
            self.documents += fragment.last and not (fragment.first and not content)
            self.bytes += len(content)
        block = np.concatenate(tokens)
        self._write("tokens", block.tobytes())
        self._write("fragments", records.tobytes())
        self.tokens += len(block)
        self.fragments += len(found)

    def finish(self) -> Mark:
        """Give the files their names, then write the mark."""
        for kind, (path, file) in self.open.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            files.rename(path, self.part.path(kind))
        mark = Mark(
            documents=self.documents,
            tokens=self.tokens,
            bytes=self.bytes,
            fragments=self.fragments,
            tokens_sha256=self.digests["tokens"].hexdigest(),
            fragments_sha256=self.digests["fragments"].hexdigest(),
        )
        files.replace(self.part.path("json"), mark.model_dump_json().encode())
        return mark

    def _write(self, kind: str, content: bytes) -> None:
        path, file = self.open[kind]
        try:
            file.write(content)
        except OSError as error:
            raise files.WriteError(
                f"{path.parent} could not be written: {files.reason(error)}"
            ) from None
        self.digests[kind].update(content)


def digest(content: bytes) -> tuple[int, int]:
    """The first 128 bits of the sha256, as two numbers."""
    found = sha256(content).digest()
    return int.from_bytes(found[:8], "big"), int.from_bytes(found[8:16], "big")


def _flags(fragment: Fragment, left_out: bool) -> int:
    flags = FIRST * fragment.first + LAST * fragment.last
    return flags + WRONG * fragment.wrong + LEFT_OUT * left_out


def _fragments(work: Work, piece: Piece) -> Iterator[tuple[str, Fragment]]:
    """Read all spans of a piece; no more documents than could be wanted of it."""
    wanted = work.limit_documents
    for span in piece.spans:
        for fragment in formats.fragments(span, work.reading):
            yield span.path, fragment
            if wanted is not None and fragment.last and (fragment.text or not fragment.first):
                wanted -= 1
                if wanted == 0:
                    return


def _batches(found: Iterator[tuple[str, Fragment]]) -> Iterator[list[tuple[str, Fragment]]]:
    batch: list[tuple[str, Fragment]] = []
    n_bytes = 0
    for path, fragment in found:
        batch.append((path, fragment))
        n_bytes += len(fragment.text)
        if n_bytes >= BATCH_BYTES or len(batch) == BATCH_FRAGMENTS:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def encode(texts: list[tuple[str, str]], encoder: Encoder, special: bool) -> list[np.ndarray]:
    """Encode texts, given with their files. Raises ValueError naming the file for what cannot be.

    special: read special tokens where they are spelled.
    """
    try:
        if special:
            return [encoder.encode(text, allow_special=True) for _, text in texts]
        return encoder.encode_all([text for _, text in texts])
    except ValueError:
        for path, text in texts:
            try:
                encoder.encode(text)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        raise
