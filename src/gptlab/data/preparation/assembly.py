"""Assembly: from parts to shards, in the order of the source; the manifest comes last."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from gptlab import files
from gptlab.data.preparation.documents import TRAIN, VAL, Documents, blocks
from gptlab.data.preparation.part import FIRST, FRAGMENT, Mark, Part
from gptlab.data.prepared import DOCUMENT, Contents, Shard, Split

AT_ONCE = 2**22  # tokens


class SplitWriter:
    """Writes the shards of a split: every one is full but the last."""

    def __init__(self, folder: Path, split: Split, shard_size: int):
        self.folder, self.shard_size = folder, shard_size
        self.split: Split = split
        self.tokens = self.documents = self.text_bytes = 0
        self.shards: list[Shard] = []
        self._begin()

    def _begin(self) -> None:
        self.name = f"{self.split}-{len(self.shards):05}"
        self.file = (self.folder / f"{self.name}.bin").open("wb")
        self.digest, self.in_shard = sha256(), 0
        self.records: list[np.ndarray] = []

    def write(self, tokens: np.ndarray, records: np.ndarray) -> None:
        """Append tokens, and the records of the documents that start in them."""
        self.documents += len(records)
        self.text_bytes += int(records["bytes"].sum())
        while len(tokens) or len(records):
            if self.in_shard == self.shard_size:
                self._end()
                self._begin()
            here = tokens[: self.shard_size - self.in_shard]
            self.file.write(here.data)
            self.digest.update(here.data)
            self.in_shard += len(here)
            self.tokens += len(here)
            n_here = int(np.searchsorted(records["start"], np.uint64(self.tokens)))
            self.records.append(records[:n_here])
            tokens, records = tokens[len(here) :], records[n_here:]

    def finish(self) -> Contents:
        self._end()
        return Contents(
            documents=self.documents,
            tokens=self.tokens,
            text_bytes=self.text_bytes,
            shards=self.shards,
        )

    def _end(self) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        records = np.concatenate([np.zeros(0, DOCUMENT), *self.records]).tobytes()
        path = self.folder / f"{self.name}.documents"
        files.write(path, records)
        files.sync(path)
        self.shards.append(
            Shard(
                name=self.name,
                tokens=self.in_shard,
                documents=len(records) // DOCUMENT.itemsize,
                tokens_sha256=self.digest.hexdigest(),
                documents_sha256=sha256(records).hexdigest(),
            )
        )

    def close(self) -> None:
        self.file.close()


def assemble(
    parts: list[tuple[Part, Mark]],
    documents: Documents,
    places: np.ndarray,
    folder: Path,
    dtype: np.dtype,
    shard_size: int,
) -> dict[Split, Contents]:
    """Write the shards. Raises ValueError for a part that is not what was written.

    places: of every document, NOWHERE, TRAIN or VAL.
    """
    n_bytes, n_documents = documents.mapped()["bytes"], 0
    writers: dict[int, SplitWriter] = {}
    try:
        writers[TRAIN] = SplitWriter(folder, "train", shard_size)
        writers[VAL] = SplitWriter(folder, "val", shard_size)
        for part, mark in parts:
            for records, tokens in _checked(part, mark, dtype):
                document = np.cumsum((records["flags"] & FIRST) > 0) + n_documents - 1
                n_documents = int(document[-1]) + 1
                place = places[document]
                for key, writer in writers.items():
                    chosen = place == key
                    if chosen.any():
                        begins = chosen & ((records["flags"] & FIRST) > 0)
                        counts = np.where(chosen, records["tokens"], 0)
                        starts = np.cumsum(counts, dtype=np.uint64) - counts + writer.tokens
                        found = np.zeros(int(begins.sum()), DOCUMENT)
                        found["start"], found["bytes"] = starts[begins], n_bytes[document[begins]]
                        whole = chosen.all()
                        mask = None if whole else np.repeat(chosen, records["tokens"])
                        writer.write(tokens if mask is None else tokens[mask], found)
        return {writer.split: writer.finish() for writer in writers.values()}
    finally:
        for writer in writers.values():
            writer.close()


def _checked(part: Part, mark: Mark, dtype: np.dtype) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read a part in pieces of whole documents where they are short, and compare its sha256."""
    digests = {"tokens": sha256(), "fragments": sha256()}
    with part.path("tokens").open("rb") as file:
        for block in blocks(part.path("fragments"), FRAGMENT):
            digests["fragments"].update(block.tobytes())
            ends = np.cumsum(block["tokens"], dtype=np.int64)
            start = 0
            while start < len(block):
                so_far = ends[start - 1] if start else 0
                stop = max(start + 1, int(np.searchsorted(ends, so_far + AT_ONCE)))
                tokens = np.fromfile(file, dtype, int(ends[stop - 1] - so_far))
                digests["tokens"].update(tokens.data)
                yield block[start:stop], tokens
                start = stop
    for kind, expected in (("tokens", mark.tokens_sha256), ("fragments", mark.fragments_sha256)):
        if digests[kind].hexdigest() != expected:
            files.remove(part.path("json"))
            raise ValueError(f"{part.path(kind)} was damaged; the same command makes it again")
