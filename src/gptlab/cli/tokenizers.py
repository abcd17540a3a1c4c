"""`gptlab tokenizer train`, `report`, `show`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gptlab.cli._verb import Json, group_of_verbs, verb

Tokens = Annotated[
    str, typer.Argument(metavar="TOKENIZER", help="A tokenizer's folder, a run's, or `byte`.")
]
Source = Annotated[
    str, typer.Argument(help="What `prepare` reads, or the name of a source: `python`.")
]

tokenizers = group_of_verbs("tokenizer", "Train, compare and look into tokenizers.")


@partial(verb, group=tokenizers, name="train")
def tokenizer_train(
    source: Source,
    out: Annotated[Path, typer.Option(help="The new folder.")],
    vocab_size: Annotated[int, typer.Option(help="The most tokens there may be.")] = 8192,
    variant: Annotated[str, typer.Option(help="bpe, byte or char.")] = "bpe",
    split_pattern: Annotated[str, typer.Option(help="How words part: gpt2, gpt4, gpt4o.")] = "gpt2",
    special: Annotated[
        list[str] | None, typer.Option(help="A special token; may be given again.")
    ] = None,
    chat: Annotated[
        str | None, typer.Option(help="A chat template: chatml, plain, or a YAML file.")
    ] = None,
    multiple_of: Annotated[
        int, typer.Option(min=1, help="Round the vocabulary size up to a multiple.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Learn from the first so many bytes.")
    ] = None,
) -> None:
    """Train a tokenizer: the same text gives the same file."""
    from gptlab.show.tokenizer_training import settings_of, train
    from gptlab.tokenizer import find_chat

    template = find_chat(chat) if chat else None
    tokens = (*(special or ()), *(template.special if template else ()))
    settings = settings_of(variant, vocab_size, multiple_of, split_pattern, tokens)
    train(settings, source, out, limit, template)


@partial(verb, group=tokenizers, name="report")
def tokenizer_report(
    tokenizer: Tokens,
    source: Source,
    others: Annotated[
        list[str] | None, typer.Argument(metavar="[OTHER]...", help="What to compare with.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Read the first so many bytes.")] = 10_000_000,
    plot: Annotated[
        Path | None, typer.Option(help="Where the picture goes.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Measure tokenizers on a text: compression, use of the vocabulary, speed."""
    from gptlab.show.tokenizer_report import report

    report([tokenizer, *(others or [])], source, limit, plot, json)


@partial(verb, group=tokenizers, name="show")
def tokenizer_show(
    tokenizer: Tokens,
    text: Annotated[
        str | None, typer.Argument(help="The text (default: standard input).", show_default=False)
    ] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Read special tokens where they are spelled.")
    ] = False,
) -> None:
    """Show the pieces of a text and their ids."""
    from gptlab.show.pieces import read_text, show_pieces
    from gptlab.tokenizer import open_encoder

    given = read_text(sys.stdin.buffer) if text is None else text
    show_pieces(open_encoder(tokenizer), given, special)
