"""Of all documents: which are kept, and which are for validation.

A document is known by the first 128 bits of the sha256 of its text; of one that is longer than a
section, by those of the digests of its sections. What is decided of a document depends on that
number, on the copies before it and on nothing else, so that a larger source has the same documents
for validation, and more.

Work goes in blocks: memory is about a byte per document, plus `BUCKET` digests for `--dedup`.
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from gptlab.data.preparation.part import FIRST, FRAGMENT, LAST, LEFT_OUT, WRONG, Part

DOCUMENTS = np.dtype([("digest", "<u8", 2), ("tokens", "<u8"), ("bytes", "<u8"), ("flags", "u1")])
BLOCK = 2**18  # records
BUCKET = 2**22  # digests that are compared at a time
NOWHERE, TRAIN, VAL = 0, 1, 2


class Documents:
    """The table of all documents of a source, in its order, on the disk."""

    def __init__(self, path: Path):
        self.path = path
        self.n = path.stat().st_size // DOCUMENTS.itemsize

    @classmethod
    def collect(cls, parts: list[Part], path: Path) -> "Documents":
        """Put the fragments of all parts together to documents."""
        held = np.zeros(0, FRAGMENT)
        with path.open("wb") as file:
            for part in parts:
                for records in blocks(part.path("fragments"), FRAGMENT):
                    held = np.concatenate([held, records])
                    ends = np.flatnonzero(held["flags"] & LAST)
                    whole = ends[-1] + 1 if len(ends) else 0
                    file.write(_joined(held[:whole]).tobytes())
                    held = held[whole:]
            assert len(held) == 0, "a document without an end"
        return cls(path)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Read the table in blocks, with the number of each one's first document."""
        first = 0
        for block in blocks(self.path, DOCUMENTS):
            yield first, block
            first += len(block)

    def mapped(self) -> np.ndarray:
        """Map the table into memory."""
        return np.memmap(self.path, DOCUMENTS, "r") if self.n else np.zeros(0, DOCUMENTS)

    def fingerprint(self) -> str:
        """The sha256 of all documents' digests."""
        whole = sha256()
        for _, block in self.blocks():
            whole.update(block["digest"].astype("<u8").tobytes())
        return whole.hexdigest()

    def usable(self, limit: int | None) -> tuple[np.ndarray, dict[str, int], int]:
        """Tell which documents are text and not empty, how many are not, how many were wrong.

        limit: how many are wanted; those behind are as if they were not there.
        """
        found = np.zeros(self.n, bool)
        counts, wrong, wanted = {"empty": 0, "not_text": 0}, 0, self.n if limit is None else limit
        for first, block in self.blocks():
            left_out = (block["flags"] & LEFT_OUT) > 0
            empty = ~left_out & (block["bytes"] == 0)
            good = ~left_out & ~empty
            end = int(np.searchsorted(np.cumsum(good), wanted)) + 1 if wanted < good.sum() else None
            found[first : first + len(block)][:end] = good[:end]
            counts["empty"] += int(empty[:end].sum())
            counts["not_text"] += int(left_out[:end].sum())
            wrong += int(((block["flags"] & WRONG) > 0)[:end].sum())
            wanted -= int(good[:end].sum())
            if wanted == 0:
                break
        return found, counts, wrong

    def drop_copies(self, kept: np.ndarray) -> int:
        """Keep of equal documents the first; returns how many were dropped."""
        before, buckets = int(kept.sum()), -(-self.n // BUCKET)
        for bucket in range(buckets):
            places, digests = list[np.ndarray](), list[np.ndarray]()
            for first, block in self.blocks():
                of_bucket = block["digest"][:, 1] % buckets == bucket
                here = np.flatnonzero(kept[first : first + len(block)] & of_bucket)
                places.append(here + first)
                digests.append(block["digest"][here])
            at, digest = np.concatenate(places), np.concatenate(digests)
            order = np.lexsort((at, digest[:, 1], digest[:, 0]))
            same = (digest[order][1:] == digest[order][:-1]).all(axis=1)
            kept[at[order][1:][same]] = False
        return before - int(kept.sum())

    def split(self, kept: np.ndarray, fraction: float | None, number: int | None) -> np.ndarray:
        """Give each document its place: NOWHERE, TRAIN or VAL."""
        bound = int((fraction or 0) * 2**64) if number is None else self._smallest(kept, number)
        places = np.where(kept, TRAIN, NOWHERE).astype(np.uint8)
        for first, block in self.blocks():
            val = block["digest"][:, 0] < np.uint64(min(bound, 2**64 - 1))
            here = places[first : first + len(block)]
            here[val & (here == TRAIN)] = VAL
        return places

    def _smallest(self, kept: np.ndarray, number: int) -> int:
        """The number that the `number` smallest different digests are below."""
        smallest = np.zeros(0, np.uint64)
        for first, block in self.blocks():
            digests = block["digest"][:, 0][kept[first : first + len(block)]]
            smallest = np.unique(np.concatenate([smallest, digests]))[:number]
        return int(smallest[-1]) + 1 if len(smallest) else 0


def blocks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read a file of records in blocks."""
    with path.open("rb") as file:
        while len(block := np.fromfile(file, dtype, BLOCK)):
            yield block


def _joined(records: np.ndarray) -> np.ndarray:
    """Make documents of fragments, the first and last of which begin and end one."""
    firsts = np.flatnonzero(records["flags"] & FIRST)
    found = np.zeros(len(firsts), DOCUMENTS)
    if len(firsts) == 0:
        return found
    for name in ("tokens", "bytes"):
        found[name] = np.add.reduceat(records[name].astype(np.uint64), firsts)
    found["flags"] = np.bitwise_or.reduceat(records["flags"], firsts)
    found["digest"] = records["digest"][firsts]
    ends = np.append(firsts[1:], len(records))
    for i in np.flatnonzero(ends - firsts > 1):
        content = records["digest"][firsts[i] : ends[i]].astype(">u8").tobytes()
        digest = sha256(content).digest()
        found["digest"][i] = np.frombuffer(digest[:16], ">u8")
    return found
