"""A prepared set: shards of token ids with a manifest, as `gptlab prepare` writes them.

    manifest.json  tokenizer/tokenizer.json
    train-00000.bin  train-00000.documents  train-00001.bin ...  val-00000.bin ...

A `.bin` holds ids, little-endian uint16 or uint32, `shard_size` of them but for the last shard of
a split. A `.documents` holds two uint64 for each document that starts in that shard: where in the
split it starts, and the bytes of its text. What ends a document (end_of_text, or a blank line where
the tokenizer has none) belongs to it.
"""

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gptlab import files
from gptlab.data.shards import Shards
from gptlab.tokenizer import Encoder, Tokenizer, open_encoder

KIND = "gptlab prepared set"
FORMAT = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
WORK, PLAN = ".work", "plan.json"  # WORK/PLAN is there while a preparation is not finished
SHARD_FILE = re.compile(r"(train|val)-[0-9]{5,}\.(bin|documents)")
MAX_MANIFEST_BYTES = 100_000_000
DOCUMENT = np.dtype([("start", "<u8"), ("bytes", "<u8")])
Split = Literal["train", "val"]
Count = Annotated[int, Field(ge=0)]


class Plain(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Shard(Plain):
    """The files `name`.bin and `name`.documents."""

    name: Annotated[str, Field(pattern=r"^(train|val)-[0-9]{5,}$")]
    tokens: Count
    documents: Count
    tokens_sha256: str
    documents_sha256: str


class Contents(Plain):
    """What a split holds; `text_bytes` counts the UTF-8 bytes of its documents."""

    documents: Count
    tokens: Count
    text_bytes: Count
    shards: list[Shard]


class Manifest(Plain):
    """What the set holds and what it was made of. `checksum`: of all that stands before it.

    `source_sha256`: of the sha256 of every document read, in the source's order.
    `left_out`: documents that are not in the set, by reason.
    """

    kind: str = KIND
    format: int = FORMAT
    source: str
    source_files: Count
    source_sha256: str
    column: str
    separator: str | None
    errors: str
    special_tokens: bool
    limit_documents: int | None
    dedup: bool
    split_rule: str
    documents_read: Count
    not_text: Count
    left_out: dict[str, Count]
    tokenizer: dict[str, Any]
    tokenizer_sha256: str
    vocab_size: int
    dtype: Literal["uint16", "uint32"]
    shard_size: Annotated[int, Field(ge=1)]
    train: Contents
    val: Contents
    versions: dict[str, str]
    checksum: str = ""

    def write(self) -> bytes:
        """Write it with its checksum."""
        return self.model_copy(update={"checksum": self._sum()}).model_dump_json(indent=1).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read what `write` wrote, and nothing but exactly that."""
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = "".join(f"{step}: " for step in problem["loc"])
            raise ValueError(f"{MANIFEST}: {place}{problem['msg']}") from None
        if (manifest.kind, manifest.format) != (KIND, FORMAT):
            raise ValueError(
                f"{MANIFEST}: {manifest.kind!r} of format {manifest.format}, this gptlab reads "
                f"{KIND!r} of format {FORMAT}"
            )
        if manifest.write() != content:
            raise ValueError(f"{MANIFEST} is not what was written")
        return manifest

    def of(self, split: Split) -> Contents:
        return self.train if split == "train" else self.val

    def sizes(self) -> dict[str, int]:
        """The files of the shards and their sizes."""
        itemsize = np.dtype(self.dtype).itemsize
        shards = self.train.shards + self.val.shards
        tokens = {f"{shard.name}.bin": shard.tokens * itemsize for shard in shards}
        records = {
            f"{shard.name}.documents": shard.documents * DOCUMENT.itemsize for shard in shards
        }
        return tokens | records

    def _sum(self) -> str:
        blank = self.model_copy(update={"checksum": ""})
        return sha256(blank.model_dump_json(indent=1).encode()).hexdigest()


@dataclass(frozen=True)
class PreparedSet:
    """An open set: names and sizes are those of the manifest.

    `encoder`: the tokenizer that the text was encoded with. `fingerprint`: of the manifest.
    """

    path: Path
    manifest: Manifest
    encoder: Encoder
    fingerprint: str

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a folder. Raises ValueError, in one line, if anything about it is not as it was."""
        path = Path(path)
        try:
            content = files.read(path / MANIFEST, MAX_MANIFEST_BYTES)
            manifest = Manifest.parse(content)
            _compare_names(path, manifest)
            for name, size in manifest.sizes().items():
                if files.size(path / name) != size:
                    raise ValueError(
                        f"{name} has {files.size(path / name):,} bytes, {MANIFEST} says {size:,}"
                    )
            for split in (manifest.train, manifest.val):
                _check_full(split.shards, manifest.shard_size)
            encoder = open_encoder(path / TOKENIZER)
            if encoder.fingerprint() != manifest.tokenizer_sha256:
                raise ValueError(
                    f"{MANIFEST} and {TOKENIZER}/ differ: it was prepared with the tokenizer "
                    f"{manifest.tokenizer_sha256[:12]}, this is {encoder.fingerprint()[:12]}"
                )
            if encoder.vocab_size != manifest.vocab_size:
                raise ValueError(
                    f"{MANIFEST} says {manifest.vocab_size:,} ids, its tokenizer has "
                    f"{encoder.vocab_size:,}"
                )
        except FileNotFoundError as error:
            name = Path(error.filename).name
            what = "it was never finished, or is no prepared set" if name == MANIFEST else "damaged"
            raise ValueError(f"{path}: {name} is missing: {what}") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({files.reason(error)})") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return cls(path, manifest, encoder, sha256(content).hexdigest())

    @property
    def tokenizer(self) -> Tokenizer:
        """The settings of the tokenizer."""
        return Tokenizer.parse(self.manifest.tokenizer)

    def tokens(self, split: Split) -> np.ndarray | Shards:
        """Map the ids of a split into memory, without reading them."""
        shards = self.manifest.of(split).shards
        arrays = [
            np.memmap(self.path / f"{shard.name}.bin", self.manifest.dtype, "r", shape=shard.tokens)
            for shard in shards
        ]
        return arrays[0] if len(arrays) == 1 else Shards(arrays)

    def documents(self, split: Split) -> np.ndarray:
        """Read, of every document of a split, where it `start`s and the `bytes` of its text."""
        shards = self.manifest.of(split).shards
        arrays = [np.fromfile(self.path / f"{shard.name}.documents", DOCUMENT) for shard in shards]
        return np.concatenate(arrays)

    def verify(self) -> None:
        """Compare the sha256 of every shard. Raises ValueError naming each that differs."""
        damaged = []
        for shard in self.manifest.train.shards + self.manifest.val.shards:
            for kind, expected in [
                ("bin", shard.tokens_sha256),
                ("documents", shard.documents_sha256),
            ]:
                name = f"{shard.name}.{kind}"
                if files.digest(self.path / name) != expected:
                    damaged.append(name)
        if damaged:
            raise ValueError(
                f"{self.path}: not what was written (the sha256 differs): {', '.join(damaged)}"
            )


def is_prepared(path: str | Path) -> bool:
    """Tell whether a folder holds the manifest of a prepared set."""
    try:
        with (Path(path).expanduser() / MANIFEST).open("rb") as file:
            return KIND.encode() in file.read(100)
    except OSError:
        return False


def is_remnant(path: str | Path) -> bool:
    """Tell whether a folder holds what a preparation writes, without a manifest."""
    folder = Path(path).expanduser()
    try:
        names = os.listdir(folder)
    except OSError:  # no folder, or one that whoever reads it will complain about
        return False
    begun = (folder / WORK / PLAN).is_file() or any(map(SHARD_FILE.fullmatch, names))
    return begun and not is_prepared(folder)


def _compare_names(path: Path, manifest: Manifest) -> None:
    """Refuse missing and unknown files; hidden ones (.DS_Store) are an operating system's own."""
    present = {name for name in os.listdir(path) if not name.startswith(".")}
    expected = {MANIFEST, TOKENIZER, *manifest.sizes()}
    problems = [f"{name} is missing" for name in sorted(expected - present)]
    problems += [f"{name} is not in {MANIFEST}" for name in sorted(present - expected)]
    if problems:
        raise ValueError(", ".join(problems[:5]))


def _check_full(shards: list[Shard], size: int) -> None:
    """Refuse shards that are not full, but for the last."""
    if not shards:
        raise ValueError(f"{MANIFEST} names no shards of a split")
    for shard in shards:
        if shard.tokens > size or (shard.tokens < size and shard is not shards[-1]):
            raise ValueError(f"{shard.name} has {shard.tokens:,} tokens, a full one has {size:,}")
