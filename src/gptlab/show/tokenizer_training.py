"""`gptlab tokenizer train`: what a person sees of it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from gptlab.config import find_variant
from gptlab.data.vocabulary import check_empty, read_source, train_tokenizer
from gptlab.tokenizer import Chat, Encoder, Tokenizer
from gptlab.train.display import duration

LOOK = 1_000_000  # characters on which the new tokenizer is tried


def settings_of(
    variant: str, vocab_size: int, multiple_of: int, pattern: str, special: Sequence[str]
) -> Tokenizer:
    """Make the settings of a variant, of which those are left out that it does not have."""
    given = {
        "vocab_size": vocab_size + -vocab_size % multiple_of,
        "pattern": pattern,
        "special": list(special),
    }
    kind = find_variant(Tokenizer, variant)
    if special and "special" not in kind.model_fields:
        raise ValueError(f"--variant={variant} has no special tokens; use bpe or byte")
    known = {name: value for name, value in given.items() if name in kind.model_fields}
    return kind.parse(known)


def train(
    tokenizer: Tokenizer, source: str, out: Path, limit: int | None, chat: Chat | None
) -> None:
    """Train a tokenizer on a source, write it into a new folder, and say what came of it."""
    check_empty(out)
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False, markup=False)
    if not console.is_terminal:
        console.print(f"reading {source}")
    documents = read_source(source, limit)
    began = time.monotonic()
    with _progress(console) as progress:
        task = progress.add_task("counting words", total=sum(map(len, documents)), left="left")

        def advance(n_characters: int) -> None:
            progress.advance(task, n_characters)
            if progress.finished:  # how long the rest takes, nobody can tell
                progress.remove_task(task)
                progress.add_task("learning tokens", total=None, left="")
                progress.refresh()

        encoder = train_tokenizer(tokenizer, documents, out, chat, advance)
    seconds = time.monotonic() - began
    for line in _summary(tokenizer, encoder, documents, seconds):
        console.print(line)
    print(out)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _summary(
    tokenizer: Tokenizer, encoder: Encoder, documents: list[str], seconds: float
) -> list[str]:
    n_bytes = sum(len(document.encode("utf-8")) for document in documents)
    sample = "".join(documents)[:LOOK] if documents else ""
    n_tokens = len(encoder.encode(sample))
    lines = [
        f"{tokenizer.variant}: {encoder.vocab_size:,} tokens, {len(encoder.special)} of them "
        f"special, from {n_bytes:,} bytes in {len(documents):,} documents, in {duration(seconds)}",
        f"{len(sample.encode('utf-8')) / n_tokens:.3f} bytes per token at its beginning",
        f"sha256 {encoder.fingerprint()}",
    ]
    if encoder.vocab_size < tokenizer.expected_vocab_size and tokenizer.variant == "bpe":
        lines.append(
            f"fewer tokens than the {tokenizer.expected_vocab_size:,} asked for: nothing else in "
            "this text occurs twice"
        )
    return lines
