"""The command `gptlab`: verbs and `path.to.setting=value`. No logic of its own.

Nothing here imports torch until a verb needs it, so that help is quick.

Exit codes: 0 done, 1 failed, 2 the user's mistake, 130 and 143 stopped by Ctrl-C or SIGTERM.
"""

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gptlab.train.run import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokenizers = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tokenizers, name="tokenizer", help="Train, compare and look into tokenizers.")
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data", help="Look at prepared sets, and check them.")
SETTINGS = {"ignore_unknown_options": True}  # `--model.positions=rotary` is a setting


def verb(
    function: Callable[..., None], group: typer.Typer = app, name: str | None = None
) -> Callable[..., None]:
    """Make a function a verb of the command line: a user's mistake is one line and exit code 2."""

    @wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except KeyboardInterrupt:
            _fail("stopped", 128 + signal.SIGINT)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except (ValueError, OSError) as error:
            _fail(f"error: {error}", 2)
        except (FloatingPointError, MemoryError) as error:
            _fail(f"failed: {str(error) or 'not enough memory'}", 1)

    name = name or function.__name__.rstrip("_")  # `import` is a word of Python's
    return group.command(name, context_settings=SETTINGS if group is app else None)(guarded)


Target = Annotated[str, typer.Argument(help="A recipe, a run folder or a config file.")]
Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings, as path.to.setting=value.", show_default=False)
]
Tokens = Annotated[
    str, typer.Argument(metavar="TOKENIZER", help="A tokenizer's folder, a run's, or `byte`.")
]
Source = Annotated[
    str, typer.Argument(help="What `prepare` reads, or the name of a source: `python`.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@verb
def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [SETTING=VALUE]...",
            help="A recipe or a config file (default: quickstart), then settings.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the model and its cost; train nothing.")
    ] = False,
) -> None:
    """Train a recipe in a new folder runs/NAME."""
    target, settings = _split(words or [])
    if dry_run:
        return show(target, settings)
    from gptlab.recipes import open_recipe
    from gptlab.runs.folder import free_name
    from gptlab.train.run import start_run

    base = open_recipe(target)
    recipe = base.override(settings)
    if recipe.name == base.name:  # not chosen by the user, so a free one will do
        recipe = recipe.but(name=free_name(Path("runs"), recipe.name))
    _end(start_run(recipe, say=_say, origin=base.name))


@verb
def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")], settings: Settings = None
) -> None:
    """Go on with a run after Ctrl-C, a kill or a power cut, exactly where it stopped."""
    from gptlab.train.run import resume_run

    _end(resume_run(run, settings or [], say=_say))


@verb
def show(target: Target, settings: Settings = None, json: Json = False) -> None:
    """Explain a model: config, wiring, parameters, FLOPs, memory."""
    from gptlab.recipes import open_recipe
    from gptlab.show.model import show as show_model

    show_model(open_recipe(target).override(settings or []), json)


@verb
def diff(a: Target, b: Target) -> None:
    """Tell what separates two recipes, two runs, or a recipe and a run."""
    from gptlab.show.diff import diff as show_diff

    show_diff(a, b)


@verb
def parts(
    slot: Annotated[str | None, typer.Argument(help="All about this slot.")] = None,
    variant: Annotated[str | None, typer.Argument(help="All about this variant of it.")] = None,
    markdown: Annotated[
        bool,
        typer.Option("--markdown", help="All about all of them, or of this slot, as Markdown."),
    ] = False,
) -> None:
    """List the parts that a model can be made of, with their settings."""
    from gptlab.show.parts import parts as show_parts

    show_parts(slot, variant, markdown)


@verb
def recipes() -> None:
    """List the recipes."""
    from gptlab.show.recipes import show_recipes

    show_recipes()


@verb
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    json: Json = False,
) -> None:
    """List the runs: recipe, parameters, tokens, losses, time, state."""
    from gptlab.show.runs import show_runs

    show_runs(folder, json)


@verb
def generate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    max_tokens: Annotated[int, typer.Option(help="How many tokens to write.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among this many tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Choose among this much probability.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Leave out what is this much less likely than the best.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed writes the same text.")] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", help="How many texts.")] = 1,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Let a trained model write."""
    from gptlab.generate import load

    model = load(run, checkpoint, device)
    options: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "stop": tuple(stop or ()),
        "seed": seed,
    }
    if samples == 1:
        pieces = model.stream(prompt, **options)
        first = next(pieces, "")  # a mistake is found before anything is printed
        print(prompt, first, sep="", end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    for number, text in enumerate(model.generate(prompt, n=samples, **options), 1):
        print(f"--- sample {number}\n{prompt}{text}\n")


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


@verb
def prepare(
    source: Annotated[
        str,
        typer.Argument(help="A file, folder or glob, or hf:NAME[:CONFIG][:SPLIT]."),
    ],
    tokenizer: Annotated[str, typer.Option(help="A tokenizer's folder, a run's, or `byte`.")],
    out: Annotated[Path, typer.Option(help="A new folder for the prepared set.")],
    val_fraction: Annotated[
        float | None,
        typer.Option(help="Of the documents, for validation (default: 0.01).", show_default=False),
    ] = None,
    val_docs: Annotated[
        int | None, typer.Option(help="So many documents for validation.", show_default=False)
    ] = None,
    shard_size: Annotated[str, typer.Option(help="Tokens in a shard.")] = "100M",
    workers: Annotated[
        int | None, typer.Option(help="Processes (default: a core each).", show_default=False)
    ] = None,
    limit_docs: Annotated[
        int | None, typer.Option(help="Take the first so many documents.", show_default=False)
    ] = None,
    column: Annotated[str, typer.Option(help="The field that holds the text.")] = "text",
    separator: Annotated[
        str | None,
        typer.Option(help=r"What parts documents in a file of plain text; \n is a line end."),
    ] = None,
    errors: Annotated[
        str, typer.Option(help="What is not UTF-8: strict, replace or skip.")
    ] = "strict",
    dedup: Annotated[bool, typer.Option("--dedup", help="Drop exact copies.")] = False,
    special_tokens: Annotated[
        bool, typer.Option("--special-tokens", help="Read special tokens where they are spelled.")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(help="The address of a Ray cluster, or local.", show_default=False)
    ] = None,
) -> None:
    """Turn text of any size into shards of tokens; interrupted, the same command goes on."""
    from gptlab.data.preparation.options import Options
    from gptlab.show.preparation import show_preparation

    shard_tokens = _count(shard_size, "--shard-size")
    if shard_tokens < 1000:
        raise ValueError(f"--shard-size={shard_size} must be 1,000 or more: each is two files")
    show_preparation(
        Options(
            source=source,
            tokenizer=tokenizer,
            out=out,
            val_fraction=val_fraction,
            val_documents=val_docs,
            shard_size=shard_tokens,
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


@verb
def import_(
    folder: Annotated[
        Path,
        typer.Argument(help="A local folder with config.json, safetensors and tokenizer.json."),
    ],
    name: Annotated[
        str | None, typer.Option(help="What to call the run (default: as the folder).")
    ] = None,
) -> None:
    """Turn a Hugging Face model into a run folder runs/NAME; nothing in it is executed."""
    from gptlab.interop.importing import import_folder

    run = import_folder(folder, Path("runs"), name, say=_say)
    print(f"{run.path}")
    _say(
        f"let it write with: gptlab generate {run.path} --prompt TEXT\nor train it further with: "
        f"gptlab train {run.path} train.init_from={run.path} data.path=FILE"
    )


@verb
def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    folder: Annotated[Path, typer.Argument(help="The new folder to write.")],
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step.")] = "last",
) -> None:
    """Turn a run into a folder that transformers' AutoModelForCausalLM loads."""
    from gptlab.interop.exporting import export_run

    family = export_run(run, folder, checkpoint)
    print(f"{folder}: {family.model_type}, {family.architecture}")


@verb
def doctor() -> None:
    """Print what this machine can do, as a block to paste into a bug report."""
    from gptlab.show.doctor import doctor as show_doctor

    show_doctor()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
    app(args=arguments)


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Part the target, if the first word is one, from the settings."""
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return "quickstart", words


def _count(text: str, name: str) -> int:
    """Read a number such as 5000, 500k, 100M or 2G."""
    number, unit = text[:-1], text[-1:]
    factor = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(unit)
    digits = text if factor is None else number
    if not digits.isdecimal():
        raise ValueError(f"{name}={text} is not a number such as 5000, 500k, 100M or 2G")
    return int(digits) * (factor or 1)


def _unescaped(text: str | None) -> str | None:
    return text and text.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")


def _one_of(text: str, known: tuple[str, ...], name: str) -> Any:
    if text not in known:
        raise ValueError(f"{name}={text} must be one of {', '.join(known)}")
    return text


def _fail(text: str, code: int) -> NoReturn:
    _say(text)
    raise SystemExit(code) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end(outcome: "Outcome") -> None:
    """Say how a run ended and how to go on; exit 130 or 143 after a signal."""
    path = outcome.run.path
    if outcome.reason == "done":
        sample = outcome.session.sample()
        if sample:
            print(f"\nA sample of what it writes now:\n\n{sample}\n", flush=True)
        _say(f"done: {path}; let it write more with: gptlab generate {path} --prompt TEXT")
    elif outcome.reason == "max_seconds":
        _say(f"train.max_seconds reached; go on with: gptlab resume {path} train.max_seconds=null")
    else:
        _say(f"saved after step {outcome.session.step}; go on with: gptlab resume {path}")
        raise SystemExit(128 + signal.Signals[outcome.reason])
