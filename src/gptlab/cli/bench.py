"""`gptlab bench`: what is fast, and how much, beside what others use."""

import re
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gptlab.cli._verb import group_of_verbs, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from gptlab.bench.preparing import Peers
    from gptlab.bench.protocol import Plan, Tell
    from gptlab.bench.record import Record
    from gptlab.show.bench import Output

benches = group_of_verbs("bench", "Measure speed and memory, beside other libraries or recipes.")

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE[:SETTING=VALUE]...]... [SETTING=VALUE]...",
        help="Recipes, the first beside the others; settings behind a colon are of that one alone.",
        show_default=False,
    ),
]
Against = Annotated[
    str, typer.Option(help="Whom to measure against, with commas between: reference, ...")
]
Rounds = Annotated[int, typer.Option(min=1, help="How many rounds must count.")]
Seconds = Annotated[
    float, typer.Option(min=0, max=3600, help="Of each arm's two turns in a round.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of every process (default: torch's choice).")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Keep everything, round by round, in this file.")
]
Plot = Annotated[Path | None, typer.Option(help="Draw a picture, such as bench.png.")]
Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print Markdown for a page instead of a table.")
]
NanoGPT = Annotated[Path | None, typer.Option("--nanogpt", help="A checkout of nanoGPT.")]
LitGPT = Annotated[Path | None, typer.Option(help="The Python of an environment that has litgpt.")]


@partial(verb, group=benches, name="train")
def bench_train(
    words: Words = None,
    against: Against = "",
    rounds: Rounds = 7,
    seconds: Seconds = 3.0,
    to_loss: Annotated[
        float | None,
        typer.Option(min=0, max=1000, help="Measure the time to this validation loss instead."),
    ] = None,
    like: Annotated[
        str, typer.Option(help="With --to-loss: whose sizes and steps the others take.")
    ] = "shakespeare",
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
    nanogpt: NanoGPT = None,
    litgpt_python: LitGPT = None,
) -> None:
    """Training steps: tokens per second, and peak memory; or whole runs, to a loss."""
    from gptlab.bench.racing import bench_race
    from gptlab.bench.training import bench_training

    peers, plan = _peers(against, nanogpt, litgpt_python), _plan(rounds, seconds)

    def measure(tell: "Tell") -> "Record":
        if to_loss is None:
            return bench_training(words or [], peers, plan, threads, tell)
        return bench_race(words or [], peers, plan, threads, tell, to_loss, like)

    _bench(measure, json, plot, markdown)


@partial(verb, group=benches, name="generate")
def bench_generate(
    words: Words = None,
    against: Against = "",
    tokens: Annotated[int, typer.Option(min=1, help="How many each text has.")] = 500,
    batch: Annotated[str, typer.Option(help="How many texts at once: 1, or 32,1.")] = "1",
    quantize: Annotated[
        str, typer.Option(help="Forms of weights to measure beside: none, bf16, int8, with commas.")
    ] = "",
    rounds: Rounds = 7,
    seconds: Seconds = 3.0,
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
    nanogpt: NanoGPT = None,
) -> None:
    """Writing: tokens per second."""
    from gptlab.bench.generation import bench_generation

    forms = _names(quantize)
    peers, plan, batches = (
        _peers(against, nanogpt),
        _plan(rounds, seconds),
        _numbers(batch, "batch"),
    )
    _bench(
        lambda tell: bench_generation(
            words or [], peers, plan, threads, tell, tokens, batches, forms
        ),
        json,
        plot,
        markdown,
    )


@partial(verb, group=benches, name="attention")
def bench_attention(
    words: Words = None,
    window: Annotated[int, typer.Option(min=1, help="What a token sees, itself included.")] = 1024,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a row.")] = 8192,
    rounds: Rounds = 7,
    seconds: Seconds = 3.0,
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
) -> None:
    """Training steps with windows, beside full attention of the same model."""
    from gptlab.bench.steps import bench_attention

    plan = _plan(rounds, seconds)
    _bench(
        lambda tell: bench_attention(words or [], plan, threads, tell, window, length),
        json,
        plot,
        markdown,
    )


@partial(verb, group=benches, name="loss")
def bench_loss(
    words: Words = None,
    against: Against = "",
    tokens: Annotated[int, typer.Option(min=1, help="Of a step, all computed at once.")] = 8192,
    rounds: Rounds = 7,
    seconds: Seconds = 3.0,
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
    nanogpt: NanoGPT = None,
    litgpt_python: LitGPT = None,
) -> None:
    """Training steps of GPT-2, time and peak memory, beside those that hold all logits."""
    from gptlab.bench.steps import bench_loss

    peers, plan = _peers(against, nanogpt, litgpt_python), _plan(rounds, seconds)
    _bench(
        lambda tell: bench_loss(words or [], peers, plan, threads, tell, tokens),
        json,
        plot,
        markdown,
    )


@partial(verb, group=benches, name="tokenizer")
def bench_tokenizer(
    tokenizer: Annotated[
        str | None, typer.Argument(help="A tokenizer's folder.", show_default=False)
    ] = None,
    megabytes: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Of text, of which none recurs.")
    ] = 10,
    against: Against = "tokenizers,tokenizers-fast",
    rounds: Rounds = 7,
    seconds: Seconds = 3.0,
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
) -> None:
    """Encoding: megabytes per second, beside the library called directly."""
    from gptlab.bench.encoding import bench_encoding

    peers, plan = _peers(against), _plan(rounds, seconds)
    _bench(
        lambda tell: bench_encoding(tokenizer, megabytes, peers, plan, threads, tell),
        json,
        plot,
        markdown,
    )


@partial(verb, group=benches, name="show")
def bench_show(
    files: Annotated[list[Path], typer.Argument(help="What --json wrote.")],
    plot: Plot = None,
    markdown: Markdown = False,
) -> None:
    """Print measurements again, from their files."""
    from gptlab.show.bench import report_files

    report_files(files, _output(None, plot, markdown))


def _bench(
    measure: "Callable[[Tell], Record]", json: Path | None, plot: Path | None, markdown: bool
) -> None:
    from gptlab.show.bench import bench

    words = [re.sub(r"[^\s=:,]*/", "", word) for word in sys.argv[1:]]  # no paths
    bench(measure, shlex.join(["gptlab", *words]), _output(json, plot, markdown))


def _peers(against: str, nanogpt: Path | None = None, litgpt_python: Path | None = None) -> "Peers":
    from gptlab.bench.preparing import Peers

    return Peers(_names(against), nanogpt, litgpt_python)


def _plan(rounds: int, seconds: float) -> "Plan":
    from gptlab.bench.protocol import Plan

    return Plan(rounds=rounds, seconds=seconds, warmup=seconds)


def _output(json: Path | None, plot: Path | None, markdown: bool) -> "Output":
    from gptlab.show.bench import Output

    return Output(json, plot, markdown)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str, name: str) -> list[int]:
    if not all(word.isdecimal() and int(word) for word in text.split(",")):
        raise ValueError(f"--{name}={text} must be a number above 0, or several with commas: 32,1")
    return [int(word) for word in text.split(",")]
