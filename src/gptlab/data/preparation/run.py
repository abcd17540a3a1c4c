"""A preparation, from a source to a prepared set."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np

import gptlab
from gptlab import machine
from gptlab.data.corpus import BLANK_LINE
from gptlab.data.formats import Reading
from gptlab.data.preparation.estimate import Estimate, check_disk, estimate
from gptlab.data.preparation.finishing import NoDocuments, finish
from gptlab.data.preparation.folder import WorkFolder
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.part import Mark, Part, Progress, Work
from gptlab.data.preparation.pools import Events, in_processes, in_this_process
from gptlab.data.preparation.source import Piece, Source, open_source
from gptlab.data.prepared import TOKENIZER, PreparedSet
from gptlab.tokenizer import Encoder, Tokenizer, open_tokenizer


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
    tokenizer, encoder = _open_tokenizer(options)
    reading = Reading(options.column, options.separator, options.errors)
    source = open_source(options.source, reading, options.fraction)
    folder = WorkFolder(options.out, _plan(options, source, encoder))
    if folder.check():
        folder.remove()
        listener.say(f"{options.out} was finished already")
        return PreparedSet.open(options.out)
    dtype = np.dtype("<u2" if encoder.vocab_size <= 2**16 else "<u4")
    work = Work(
        str(folder.path),
        reading,
        options.special_tokens,
        dtype.str,
        () if encoder.start_of_text is None else (encoder.start_of_text,),
        _ending(encoder),
        options.limit_documents,
    )
    done = _done(work, source.pieces)
    workers = min(options.workers or machine.usable_cores(), len(source.pieces))
    wanted = estimate(source, reading, encoder, dtype.itemsize, workers)
    listener.estimated(source, wanted, workers)
    if wanted is not None:
        check_disk(wanted, options.out, 1 - len(done) / len(source.pieces))
    try:
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
            finish(options, source, done, tokenizer, encoder, work)
    except NoDocuments:
        folder.remove()
        options.out.rmdir()
        raise
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


def _refuse_changes(folder: WorkFolder, options: Options, source: Source, encoder: Encoder) -> None:
    if _plan(options, source, encoder) != folder.plan:
        raise ValueError(f"{options.source} changed while it was read; remove {options.out}")


def _open_tokenizer(options: Options) -> tuple[Tokenizer, Encoder]:
    try:
        tokenizer, encoder = open_tokenizer(options.tokenizer)
    except ValueError as error:
        raise ValueError(f"--tokenizer: {error}") from None
    if options.special_tokens and not encoder.special:
        raise ValueError(f"--special-tokens: {options.tokenizer} has no special tokens")
    return tokenizer, encoder


def _ending(encoder: Encoder) -> tuple[int, ...]:
    """What follows every document."""
    if encoder.end_of_text is not None:
        return (encoder.end_of_text,)
    return tuple(encoder.encode(BLANK_LINE).tolist())
