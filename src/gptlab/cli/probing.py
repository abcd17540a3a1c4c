"""`gptlab probe`: what an architecture can do that another one cannot, in minutes."""

from pathlib import Path
from typing import Annotated

import typer

from gptlab.cli._verb import Json, Settings, Target, verb
from gptlab.probes.defaults import RATES, SEEDS, STEPS

USUAL_RATES = ",".join(f"{rate:g}" for rate in RATES)


@verb
def probe(
    target: Target,
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="Which tasks, with commas between, or all.")] = "",
    lr: Annotated[
        str | None,
        typer.Option(help="Learning rates to try, with commas between.", show_default=USUAL_RATES),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="How many, at the best learning rate.", show_default=str(SEEDS)),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of a trial, at most.", show_default=str(STEPS))
    ] = None,
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

    output, names = Output(json, plot), [name for name in task.split(",") if name]
    if (Path(target) / "config.yaml").is_file():
        of_learning = {"--lr": lr, "--seeds": seeds, "--steps": steps, "--own-size": own_size}
        given = [option for option, value in of_learning.items() if value not in (None, False)]
        if given:
            raise ValueError(
                f"{', '.join(given)}: a trained run learns nothing here; leave it out, or give "
                f"{target}/config.yaml to probe its recipe"
            )
        return probe_run(target, names, settings or [], output)
    try:
        rates = RATES if lr is None else find_rates([float(word) for word in lr.split(",")])
    except ValueError:
        raise ValueError(
            f"--lr={lr} must be numbers above 0, with commas between: {USUAL_RATES}"
        ) from None
    plan = Plan(rates, seeds or SEEDS, Training(steps or STEPS))
    probe_recipe(target, names, settings or [], plan, own_size, output)
