"""`gptlab prepare`, `gptlab data show`, `gptlab data verify`."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from gptlab.cli._verb import group_of_verbs, verb

data_app = group_of_verbs("data", "Look at prepared sets, and check them.")


def _asked(help: str) -> Any:
    """An option without a default that says something."""
    return typer.Option(help=help, show_default=False)


SourceOfText = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A file, folder or glob, or hf:NAME[:CONFIG][:SPLIT]."),
]
Separator = Annotated[
    str | None,
    typer.Option(help=r"What parts documents in a file of plain text; \n is a line end."),
]
OnErrors = Annotated[str, typer.Option(help="What is not UTF-8: strict, replace or skip.")]
SpecialTokens = Annotated[
    bool, typer.Option("--special-tokens", help="Read special tokens where they are spelled.")
]
ValFraction = Annotated[float | None, _asked("Of the documents, for validation (default: 0.01).")]


@verb
def prepare(
    source: SourceOfText,
    tokenizer: Annotated[str, typer.Option(help="A tokenizer's folder, a run's, or `byte`.")],
    out: Annotated[Path, typer.Option(help="A new folder for the prepared set.")],
    val_fraction: ValFraction = None,
    val_docs: Annotated[int | None, _asked("So many documents for validation.")] = None,
    shard_size: Annotated[str, typer.Option(help="Tokens in a shard.")] = "100M",
    workers: Annotated[int | None, _asked("Processes (default: a core each).")] = None,
    limit_docs: Annotated[int | None, _asked("Take the first so many documents.")] = None,
    column: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    separator: Separator = None,
    errors: OnErrors = "strict",
    dedup: Annotated[bool, typer.Option("--dedup", help="Drop exact copies.")] = False,
    special_tokens: SpecialTokens = False,
    ray: Annotated[str | None, _asked("The address of a Ray cluster, or local.")] = None,
) -> None:
    """Turn text of any size into shards of tokens; interrupted, the same command goes on."""
    from gptlab.data.preparation.options import Options
    from gptlab.show.preparation import show_preparation

    show_preparation(
        Options(
            source=source,
            tokenizer=tokenizer,
            out=out,
            val_fraction=val_fraction,
            val_documents=val_docs,
            shard_size=_shard_size(shard_size),
            workers=workers,
            limit_documents=limit_docs,
            column=column,
            separator=_unescaped(separator),
            errors=_one_of(errors, ("strict", "replace", "skip"), "--errors"),
            dedup=dedup,
            special_tokens=special_tokens,
            ray=ray,
        )
    )


@partial(verb, group=data_app, name="show")
def data_show(
    folder: Annotated[str, typer.Argument(help="A prepared set.")],
    samples: Annotated[int, typer.Option("--samples", "-n", help="Documents to print.")] = 2,
) -> None:
    """Print what a prepared set holds, and how some of its documents begin."""
    from gptlab.show.preparation import show_prepared

    show_prepared(folder, samples)


@partial(verb, group=data_app, name="verify")
def data_verify(folder: Annotated[str, typer.Argument(help="A prepared set.")]) -> None:
    """Compare every file of a prepared set with its sha256."""
    from gptlab.show.preparation import show_verified

    show_verified(folder)


def _shard_size(text: str) -> int:
    """Read a number such as 5000, 500k, 100M or 2G."""
    number, unit = text[:-1], text[-1:]
    factor = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(unit)
    digits = text if factor is None else number
    if not digits.isdecimal():
        raise ValueError(f"--shard-size={text} is not a number such as 5000, 500k, 100M or 2G")
    n_tokens = int(digits) * (factor or 1)
    if n_tokens < 1000:
        raise ValueError(f"--shard-size={text} must be 1,000 or more: each is two files")
    return n_tokens


def _unescaped(text: str | None) -> str | None:
    return text and text.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")


def _one_of(text: str, known: tuple[str, ...], name: str) -> Any:
    if text not in known:
        raise ValueError(f"{name}={text} must be one of {', '.join(known)}")
    return text
