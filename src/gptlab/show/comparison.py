"""`gptlab compare`: what a study will take, and what it found."""

from gptlab.compare.conduct import How, conduct
from gptlab.compare.results import Results
from gptlab.compare.study import Study
from gptlab.show._print import print_table
from gptlab.show.model import picture
from gptlab.train.session import Say


def show_comparison(study: Study, how: How, say: Say) -> None:
    """Run a study and print its answer."""
    results = conduct(study, how, picture, say)
    _print_values(results)
    say(f"results: {how.folder(study)}")


def show_plan(study: Study, how: How, say: Say) -> None:
    """Print what a study will take."""


def _print_values(results: Results) -> None:
    reported = [run for run in results.runs if run.role == "report"]
    print_table(
        results.name,
        ["arm", "seed", *(metric.title for metric in results.metrics), ""],
        [
            [
                run.variant,
                str(run.seed),
                *(f"{run.metrics.get(metric.name)}" for metric in results.metrics),
                run.state,
            ]
            for run in reported
        ],
    )
