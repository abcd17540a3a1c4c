"""`gptlab train`, `gptlab resume`."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gptlab.cli._verb import Settings, say, verb
from gptlab.cli.looking import show

if TYPE_CHECKING:
    from gptlab.train.run import Outcome


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
    _end(start_run(recipe, say=say, origin=base.name))


@verb
def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")], settings: Settings = None
) -> None:
    """Go on with a run after Ctrl-C, a kill or a power cut, exactly where it stopped."""
    from gptlab.train.run import resume_run

    _end(resume_run(run, settings or [], say=say))


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Part the target, if the first word is one, from the settings."""
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return "quickstart", words


def _end(outcome: "Outcome") -> None:
    """Say how a run ended and how to go on; exit 130 or 143 after a signal."""
    path = outcome.run.path
    if outcome.reason == "done":
        sample = outcome.session.sample()
        if sample:
            print(f"\nA sample of what it writes now:\n\n{sample}\n", flush=True)
        say(f"done: {path}; let it write more with: gptlab generate {path} --prompt TEXT")
    elif outcome.reason == "max_seconds":
        say(f"train.max_seconds reached; go on with: gptlab resume {path} train.max_seconds=null")
    else:
        say(f"saved after step {outcome.session.step}; go on with: gptlab resume {path}")
        raise SystemExit(128 + signal.Signals[outcome.reason])
