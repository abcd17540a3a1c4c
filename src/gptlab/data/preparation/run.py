"""A preparation, from a source to a prepared set."""

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np

import gptlab
from gptlab import files, machine
from gptlab.data.corpus import BLANK_LINE
from gptlab.data.formats import Errors, Reading
from gptlab.data.preparation.assembly import assemble
from gptlab.data.preparation.documents import NOWHERE, TRAIN, VAL, Documents
from gptlab.data.preparation.estimate import Estimate, check_disk, estimate
from gptlab.data.preparation.folder import WorkFolder
from gptlab.data.preparation.part import Mark, Part, Progress, Work
from gptlab.data.preparation.pools import Events, in_processes, in_this_process
from gptlab.data.preparation.source import Piece, Source, open_source
from gptlab.data.preparation.tokenizers import open_tokenizer
from gptlab.data.prepared import MANIFEST, TOKENIZER, Manifest, PreparedSet
from gptlab.tokenizer import Encoder, Tokenizer

VAL_FRACTION = 0.01


@dataclass(frozen=True)
class Options:
    """What is asked for. `val_documents` takes the place of `val_fraction`."""

    source: str
    tokenizer: str
    out: Path
    val_fraction: float | None = None
    val_documents: int | None = None
    shard_size: int = 100_000_000
    workers: int | None = None
    limit_documents: int | None = None
    column: str = "text"
    separator: str | None = None
    errors: Errors = "strict"
    dedup: bool = False
    special_tokens: bool = False
    ray: str | None = None

    def check(self) -> None:
        """Raise ValueError for what makes no sense."""
        if self.val_fraction is not None and self.val_documents is not None:
            raise ValueError("--val-fraction and --val-docs: give one of them")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise ValueError(f"--val-fraction={self.val_fraction} must be between 0 and 1")
        if self.separator == "":
            raise ValueError("--separator='' is empty: leave it out to take files as documents")
        counts = {
            "--val-docs": self.val_documents,
            "--shard-size": self.shard_size,
            "--workers": self.workers,
            "--limit-docs": self.limit_documents,
        }
        for name, count in counts.items():
            if count is not None and count < 1:
                raise ValueError(f"{name}={count} must be 1 or more")

    @property
    def fraction(self) -> float | None:
        """The fraction of the documents that are for validation, unless they are counted."""
        return None if self.val_documents is not None else self.val_fraction or VAL_FRACTION


class Listener(Protocol):
    """Hears of what happens."""

    def say(self, text: str) -> None: ...

    def estimated(self, source: Source, wanted: Estimate | None, workers: int) -> None: ...

    def began(self, total_bytes: int, done_bytes: int) -> None: ...

    def progress(self, done: Progress) -> None: ...


def prepare(options: Options, listener: Listener) -> PreparedSet:
    """Prepare a source. Raises ValueError for a mistake of the user's and for bad text."""
    options.check()
    with _one_thread():
        return _prepare(options, listener)


def _prepare(options: Options, listener: Listener) -> PreparedSet:
    tokenizer, encoder = open_tokenizer(options.tokenizer)
    reading = Reading(options.column, options.separator, options.errors)
    source = open_source(options.source, reading, options.fraction)
    folder = WorkFolder(options.out, _plan(options, source, encoder))
    if folder.check():
        folder.remove()
        listener.say(f"{options.out} was finished already")
        return PreparedSet.open(options.out)
    dtype = np.dtype("<u2" if encoder.vocab_size <= 2**16 else "<u4")
    work = Work(str(folder.path), reading, dtype.str, _ending(encoder), options.limit_documents)
    done = _done(work, source.pieces)
    workers = min(options.workers or machine.usable_cores(), len(source.pieces))
    wanted = estimate(source, reading, encoder, dtype.itemsize, workers)
    listener.estimated(source, wanted, workers)
    if wanted is not None:
        check_disk(wanted, options.out, 1 - len(done) / len(source.pieces))
    with folder.open():
        encoder.save(folder.path / TOKENIZER)
        listener.began(wanted.text_bytes if wanted else 0, sum(m.bytes for m in done.values()))
        left = _left(source.pieces, done, options.limit_documents)
        with closing(_events(options, work, left, encoder, workers, listener)) as events:
            for event in events:
                if isinstance(event, Progress):
                    listener.progress(event)
                else:
                    done[event[0]] = event[1]
        _refuse_changes(folder, options, source, encoder)
        listener.say("writing the shards")
        _finish(options, source, done, tokenizer, encoder, work, dtype)
    folder.remove()
    return PreparedSet.open(options.out)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let the library use one thread: it is workers that share the cores."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _events(
    options: Options,
    work: Work,
    left: Iterator[Piece],
    encoder: Encoder,
    workers: int,
    listener: Listener,
) -> Events:
    if options.ray is not None:
        from gptlab.data.preparation.on_ray import on_ray

        return on_ray(work, left, Path(work.folder) / TOKENIZER, options.ray)
    if workers == 1:
        return in_this_process(work, left, encoder)
    return in_processes(work, left, Path(work.folder) / TOKENIZER, workers, listener.say)


def _plan(options: Options, source: Source, encoder: Encoder) -> dict[str, object]:
    """All that determines the parts."""
    pieces = sha256(repr([(asdict(piece)) for piece in source.pieces]).encode()).hexdigest()
    stamps = sha256(repr(source.stamps()).encode()).hexdigest()
    return {
        "gptlab": gptlab.__version__,
        "SOURCE": options.source,
        "--tokenizer": encoder.fingerprint(),
        "--column": options.column,
        "--separator": options.separator,
        "--errors": options.errors,
        "--special-tokens": options.special_tokens,
        "--limit-docs": options.limit_documents,
        "what files the source has": len(source.files),
        "the state of the source's files": stamps,
        "the pieces of the source (--val-fraction cuts a lone text in two)": pieces,
    }


def _done(work: Work, pieces: list[Piece]) -> dict[int, Mark]:
    """The parts that are there already."""
    itemsize = np.dtype(work.dtype).itemsize
    marks = {p.number: Part(Path(work.folder), p.number).mark(itemsize) for p in pieces}
    return {number: mark for number, mark in marks.items() if mark is not None}


def _left(pieces: list[Piece], done: dict[int, Mark], limit: int | None) -> Iterator[Piece]:
    """The pieces that are to be done, as long as the documents wanted are not all there."""
    whole = n_documents = 0  # pieces that are done without a gap, and their documents
    for piece in pieces:
        while limit is not None and (mark := done.get(whole)) is not None:
            whole, n_documents = whole + 1, n_documents + mark.documents
        if limit is not None and n_documents >= limit:
            return
        if piece.number not in done:
            yield piece


def _needed(pieces: list[Piece], done: dict[int, Mark], limit: int | None) -> list[Piece]:
    """The pieces up to that with the last document wanted; all, as far as is known."""
    n_documents = 0
    for i, piece in enumerate(pieces):
        if piece.number not in done:
            break
        n_documents += done[piece.number].documents
        if limit is not None and n_documents >= limit:
            return pieces[: i + 1]
    return pieces


def _refuse_changes(folder: WorkFolder, options: Options, source: Source, encoder: Encoder) -> None:
    if _plan(options, source, encoder) != folder.plan:
        raise ValueError(f"{options.source} changed while it was read; remove {options.out}")


def _ending(encoder: Encoder) -> tuple[int, ...]:
    """What follows every document."""
    if encoder.end_of_text is not None:
        return (encoder.end_of_text,)
    return tuple(encoder.encode(BLANK_LINE).tolist())


def _finish(
    options: Options,
    source: Source,
    done: dict[int, Mark],
    tokenizer: Tokenizer,
    encoder: Encoder,
    work: Work,
    dtype: np.dtype,
) -> None:
    """Decide of all documents, write the shards, and the manifest last."""
    needed = _needed(source.pieces, done, options.limit_documents)
    parts = [(Part(Path(work.folder), p.number), done[p.number]) for p in needed]
    documents = Documents.collect([part for part, _ in parts], Path(work.folder) / "documents")
    kept, left_out, not_text = documents.usable(options.limit_documents)
    copies = {"copies": documents.drop_copies(kept)} if options.dedup else {}
    places, rule = _places(options, source, documents, kept)
    out = options.out
    for stale in [*out.glob("train-*"), *out.glob("val-*")]:
        stale.unlink()
    encoder.save(out / TOKENIZER)
    contents = assemble(parts, documents, places, out, dtype, options.shard_size)
    manifest = Manifest(
        source=options.source,
        source_files=len(source.files),
        source_sha256=documents.fingerprint(),
        column=options.column,
        separator=options.separator,
        errors=options.errors,
        special_tokens=options.special_tokens,
        limit_documents=options.limit_documents,
        dedup=options.dedup,
        split_rule=rule,
        documents_read=int(kept.sum()) + sum(left_out.values()) + sum(copies.values()),
        not_text=not_text,
        left_out=left_out | copies,
        tokenizer=tokenizer.model_dump(mode="json"),
        tokenizer_sha256=encoder.fingerprint(),
        vocab_size=encoder.vocab_size,
        dtype="uint16" if dtype.itemsize == 2 else "uint32",
        shard_size=options.shard_size,
        train=contents["train"],
        val=contents["val"],
        versions={
            "gptlab": gptlab.__version__,
            "tokenizers": importlib.metadata.version("tokenizers"),
        },
    )
    files.sync_folder(out)
    files.replace(out / MANIFEST, manifest.write())


def _places(
    options: Options, source: Source, documents: Documents, kept: np.ndarray
) -> tuple[np.ndarray, str]:
    """Decide where each document goes, and name the rule."""
    if source.tail:
        places = np.where(kept, np.array([TRAIN, VAL][: len(kept)], np.uint8), NOWHERE)
        rule = f"the end of the only document, from {1 - (options.fraction or 0):.6g} of it on"
    else:
        places = documents.split(kept, options.fraction, options.val_documents)
        rule = (
            f"documents whose sha256 is below {options.fraction} of all"
            if options.val_documents is None
            else f"the {options.val_documents} documents with the smallest sha256, and their copies"
        )
    n_kept, n_val = int(kept.sum()), int((places == VAL).sum())
    if not 0 < n_val < n_kept:
        what = "validation" if n_val == 0 else "training"
        given = f"--val-fraction={options.fraction}" if options.fraction else "--val-docs"
        raise ValueError(
            f"{options.source}: none of its {n_kept} documents is left for {what} ({given}); "
            "choose --val-docs between 1 and the number of documents, or give more of them"
        )
    return places, rule
