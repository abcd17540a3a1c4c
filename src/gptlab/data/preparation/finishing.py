"""The end of a preparation: what becomes of each document, the shards, and the manifest."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import gptlab
from gptlab import files
from gptlab.data.preparation.assembly import assemble
from gptlab.data.preparation.documents import NOWHERE, TRAIN, VAL, Documents
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.part import Mark, Part, Work
from gptlab.data.preparation.source import Piece, Source
from gptlab.data.prepared import MANIFEST, TOKENIZER, Manifest
from gptlab.tokenizer import Encoder, Tokenizer


class NoDocuments(ValueError):
    """There is nothing that another command could go on from."""


def finish(
    options: Options,
    source: Source,
    done: dict[int, Mark],
    tokenizer: Tokenizer,
    encoder: Encoder,
    work: Work,
) -> None:
    """Decide of all documents, write the shards, and the manifest last."""
    needed = _needed(source.pieces, done, options.limit_documents)
    parts = [(Part(Path(work.folder), p.number), done[p.number]) for p in needed]
    documents = Documents.collect([part for part, _ in parts], Path(work.folder) / "documents")
    kept, left_out, not_text = documents.usable(options.limit_documents)
    copies = {"copies": documents.drop_copies(kept)} if options.dedup else {}
    places, rule = _places(options, source, documents, kept)
    out, dtype = options.out, np.dtype(work.dtype)
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
        tokenizer=_settings(tokenizer),
        tokenizer_sha256=encoder.fingerprint(),
        vocab_size=encoder.vocab_size,
        dtype="uint16" if dtype.itemsize == 2 else "uint32",
        shard_size=options.shard_size,
        train=contents["train"],
        val=contents["val"],
        versions={
            "gptlab": gptlab.__version__,
            "tokenizers": metadata.version("tokenizers"),
        },
    )
    files.sync_folder(out)
    files.replace(out / MANIFEST, manifest.write())


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


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings that load the tokenizer from the set, wherever it came from."""
    settings = tokenizer.model_dump(mode="json")
    return settings | ({"path": None} if "path" in settings else {})


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
    if n_kept == 0:
        raise NoDocuments(f"{options.source}: it has no document that is text")
    if n_kept == 1:
        remedy = (
            "a larger --limit-docs"
            if options.limit_documents == 1
            else "--separator, unpack it, or give more text"
        )
        raise ValueError(
            f"{options.source}: it has 1 document, training and validation need one each: give "
            f"{remedy}, and remove {options.out}"
        )
    if not 0 < n_val < n_kept:
        what = "validation" if n_val == 0 else "training"
        given = f"--val-fraction={options.fraction}" if options.fraction else "--val-docs"
        raise ValueError(
            f"{options.source}: none of its {n_kept} documents is left for {what} ({given}); "
            f"choose --val-docs between 1 and {n_kept - 1:,}"
        )
    return places, rule
