"""`gptlab show`, `diff`, `parts`, `recipes`, `runs`, `doctor`: what there is, and what it costs."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.cli._verb import Json, Settings, Target, verb


@verb
def show(
    target: Target,
    settings: Settings = None,
    json: Json = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time of a training step goes.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Where a picture of that goes.", show_default=False)
    ] = None,
) -> None:
    """Explain a model: config, wiring, parameters, FLOPs, memory; with --profile, its time."""
    from gptlab.recipes import open_recipe
    from gptlab.show.model import show as show_model
    from gptlab.show.profile import profile as show_profile

    recipe = open_recipe(target).override(settings or [])
    if profile:
        return show_profile(recipe, json, plot)
    if plot:
        raise ValueError(f"--plot {plot} shows what --profile measures: give both")
    show_model(recipe, json)


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
def doctor() -> None:
    """Print what this machine can do, as a block to paste into a bug report."""
    from gptlab.show.doctor import doctor as show_doctor

    show_doctor()
