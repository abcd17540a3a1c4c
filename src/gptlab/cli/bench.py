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
    from gptlab.bench.preparing import Peers
    from gptlab.bench.protocol import Plan
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
Seconds = Annotated[float, typer.Option(min=0, help="Of each arm's two turns in a round.")]
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
    threads: Threads = None,
    json: JsonFile = None,
    plot: Plot = None,
    markdown: Markdown = False,
    nanogpt: NanoGPT = None,
    litgpt_python: LitGPT = None,
) -> None:
    """Training steps: tokens per second, and peak memory."""
    from gptlab.bench.training import bench_training
    from gptlab.show.bench import bench

    peers, plan = _peers(against, nanogpt, litgpt_python), _plan(rounds, seconds)
    bench(
        lambda tell: [bench_training(words or [], peers, plan, threads, tell)],
        _command(),
        _output(json, plot, markdown),
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


def _peers(against: str, nanogpt: Path | None, litgpt_python: Path | None) -> "Peers":
    from gptlab.bench.preparing import Peers

    return Peers([name for name in against.split(",") if name], nanogpt, litgpt_python)


def _plan(rounds: int, seconds: float) -> "Plan":
    from gptlab.bench.protocol import Plan

    return Plan(rounds=rounds, seconds=seconds, warmup=seconds)


def _output(json: Path | None, plot: Path | None, markdown: bool) -> "Output":
    from gptlab.show.bench import Output

    return Output(json, plot, markdown)


def _command() -> str:
    """What was typed, every path cut down to its last name."""
    words = [re.sub(r"[^\s=:,]*/", "", word) for word in sys.argv[1:]]
    return shlex.join(["gptlab", *words])
