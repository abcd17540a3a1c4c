"""`gptlab probe`: what an architecture can do that another one cannot, in minutes."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.cli._verb import Json, Settings, Target, verb


@verb
def probe(
    target: Target,
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="Which tasks, with commas between, or all.")] = "",
    lr: Annotated[
        str, typer.Option(help="Learning rates to try, with commas between.")
    ] = "1e-3,3e-3,1e-2",
    seeds: Annotated[int, typer.Option(min=1, help="How many, at the best learning rate.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Of a trial, at most.")] = 1000,
    own_size: Annotated[
        bool, typer.Option("--own-size", help="Keep the recipe's widths, depth and windows.")
    ] = False,
    json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(help="Where a picture goes.", show_default=False)
    ] = None,
) -> None:
    """Let a recipe's parts learn small tasks, or ask a trained run on its own text."""
    from gptlab.probes.grid import Plan, find_rates
    from gptlab.probes.learning import Training
    from gptlab.show.probe import Output, probe_recipe, probe_run

    try:
        rates = find_rates([float(word) for word in lr.split(",")])
    except ValueError:
        raise ValueError(
            f"--lr={lr} must be numbers above 0, with commas between: 1e-3,3e-3,1e-2"
        ) from None
    output, names = Output(json, plot), [name for name in task.split(",") if name]
    if (Path(target) / "config.yaml").is_file():
        return probe_run(target, names, settings or [], output)
    plan = Plan(rates, seeds, Training(steps))
    probe_recipe(target, names, settings or [], plan, own_size, output)
