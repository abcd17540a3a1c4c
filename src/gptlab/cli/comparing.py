"""`gptlab compare`, `gptlab noise`: did it help?"""

import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from gptlab.cli._verb import Settings, say, verb


def _asked(help: str, *names: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Runs side by side (default: what fits).", show_default=False),
]


@verb
def compare(
    target: Annotated[
        str, typer.Argument(help="A recipe, run folder or config file to vary, or a study's file.")
    ],
    settings: Settings = None,
    variant: Annotated[
        list[str] | None, _asked("NAME:SETTING=VALUE,...; may be repeated.", "--variant")
    ] = None,
    seeds: Annotated[str | None, _asked("How many runs of each, or which: 5, or 0,3,7.")] = None,
    match: Annotated[
        str | None, _asked("What is made equal: params, flops, tokens (default) or time.")
    ] = None,
    tune: Annotated[
        str | None, _asked("Learning rates each arm tries: lr, or lr=1e-3,2e-3,4e-3.")
    ] = None,
    metric: Annotated[
        list[str] | None, _asked("bits_per_byte (default), steps_to_loss,target=2 ...", "--metric")
    ] = None,
    factorial: Annotated[bool, typer.Option("--factorial", help="Every combination.")] = False,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="All variants together, and all but one.")
    ] = False,
    scales: Annotated[
        str | None, _asked("Sizes at which to repeat it all: nano,micro,small,medium.")
    ] = None,
    name: Annotated[str | None, _asked("Results are in studies/NAME.")] = None,
    jobs: Jobs = None,
    ray: Annotated[str | None, _asked("The address of a Ray cluster, or local.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="What it would take; run nothing.")] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; report what is there.")
    ] = False,
) -> None:
    """Compare variants of a recipe over seeds; interrupted, the same command goes on."""
    from gptlab.compare.asked import Asked
    from gptlab.compare.conduct import How
    from gptlab.compare.runner import Stopped
    from gptlab.show.comparison import show_comparison, show_plan

    study = Asked(
        target=target,
        settings=tuple(settings or ()),
        variants=tuple(variant or ()),
        seeds=seeds,
        match=match,
        tune=tune,
        metrics=tuple(metric or ()),
        factorial=factorial,
        leave_one_out=leave_one_out,
        scales=scales,
        name=name,
    ).study()
    how = How(jobs=jobs, ray=ray, report_only=report_only, command=_command())
    if plan:
        return show_plan(study, how, say)
    try:
        is_whole = show_comparison(study, how, say)
    except Stopped as stopped:
        _stop(stopped.signal_name)
    if not is_whole:
        raise SystemExit(1)


@verb
def noise(
    target: Annotated[str, typer.Argument(help="A recipe, run folder or config file.")],
    settings: Settings = None,
    seeds: Annotated[str, typer.Option(help="How many runs, or which seeds.")] = "8",
    metric: Annotated[list[str] | None, _asked("As of gptlab compare.", "--metric")] = None,
    jobs: Jobs = None,
    ray: Annotated[str | None, _asked("The address of a Ray cluster, or local.")] = None,
) -> None:
    """Measure how far a recipe's numbers move by the seed alone; later verdicts use it."""
    from gptlab.compare.conduct import How
    from gptlab.compare.reading import Measured
    from gptlab.compare.runner import Stopped
    from gptlab.recipes import open_recipe
    from gptlab.show.noise import show_noise

    recipe = open_recipe(target).override(settings or [])
    asked = Measured.parse({"seeds": seeds, "metrics": metric or ("bits_per_byte",)})
    how = How(jobs=jobs, ray=ray, command=_command())
    try:
        show_noise(recipe, asked.seeds, asked.metrics, how, say)
    except Stopped as stopped:
        _stop(stopped.signal_name)


def _stop(signal_name: str) -> NoReturn:
    say(f"stopped; nothing is lost, go on with the same command: {_command()}")
    raise SystemExit(128 + signal.Signals[signal_name]) from None


def _command() -> str:
    import shlex

    return shlex.join(["gptlab", *(word for word in sys.argv[1:] if word != "--report-only")])
