"""`gptlab compare`: what a study will take, and what it found."""

from gptlab.compare.budgeted import NOUNS
from gptlab.compare.conduct import How, conduct
from gptlab.compare.planning import plan
from gptlab.compare.report import write_report
from gptlab.compare.report.contents import warnings
from gptlab.compare.results import Comparison, Results, Tuning
from gptlab.compare.study import Study
from gptlab.show._print import print_table, rounded
from gptlab.show.model import picture
from gptlab.train.display import duration
from gptlab.train.session import Say


def show_comparison(study: Study, how: How, say: Say) -> bool:
    """Run a study and print its answer; tell whether no run has failed."""
    results = conduct(study, how, picture, say)
    _print_answer(results)
    say(f"report: {write_report(results, how.folder(study))}")
    return all(run.state != "failed" for run in results.runs)


def show_plan(study: Study, how: How, say: Say) -> None:
    """Print what a study will take; nothing is run but a few steps, to measure their time."""
    found = plan(study, how, say)
    print_table(
        f"{study.name}: every arm has the same {NOUNS[study.match]}",
        ["arm", "parameters", "non-embedding", "tokens", "training FLOPs", "off", "solved"],
        [
            [
                f"{arm.name} {arm.scale}".strip(),
                f"{counts.parameters:,}",
                f"{counts.non_embedding:,}",
                f"{counts.tokens:,}",
                rounded(counts.training_flops),
                f"{arm.matched.off:+.2%}",
                ", ".join(f"{path}={value}" for path, _, value in arm.matched.changes),
            ]
            for arm, counts in zip(found.arms, found.counts, strict=True)
            if arm.matched
        ],
    )
    tuning = f", and {found.trials} to tune" if found.trials else ""
    print(f"runs   {found.reports}{tuning}; {found.done} of them are there already")
    print(f"time   about {duration(found.seconds)}, {found.at_once} at once")
    if computed := [metric.label for metric in study.metrics if metric.is_computed]:
        print(f"       and what it takes to compute {', '.join(computed)} of the runs that ended")
    for scale, effect in found.resolves.items():
        at = f"at {scale}: " if scale else ""
        print(f"finds  {at}{_resolves(study, effect, found.look)}")
    print(f"disk   at most {rounded(found.disk)}B, {rounded(found.free)}B are free")


def _resolves(study: Study, effect: float | None, look: int) -> str:
    metric = study.metrics[0]
    if len(study.seeds) < 2:
        return "nothing: one seed tells nothing of the noise; give --seeds 3 or more"
    if effect is None:
        return "unknown: nothing is known of the noise; measure it with gptlab noise"
    size = f"a factor of {effect:.3g}" if metric.scale == "ratio" else f"{effect:.3g} {metric.unit}"
    text = f"differences of {size} and more, four times of five, if pairs have nothing in common"
    return text + (f"; at look {look} of this study" if look > 1 else "")


def _print_answer(results: Results) -> None:
    print(results.question)
    for metric in results.metrics:
        found = [each for each in results.comparisons if each.metric == metric.name]
        print_table(
            f"{results.name}: {metric.title}, against {results.base}",
            ["", results.base, "variant", "difference", "95% interval", "verdict"],
            [
                [
                    _name(each),
                    _number(each.base_value),
                    _number(each.variant_value),
                    _number(each.difference),
                    "-" if each.low is None else f"{_number(each.low)} to {_number(each.high)}",
                    each.verdict,
                ]
                for each in found
            ],
        )
        print("\n".join(f"{_name(each)}: {each.text}" for each in found), end="\n\n")
    if results.tuning:
        chosen = [f"{_name(each)} {each.chosen:g}" for each in results.tuning]
        print(f"tuned {results.tuning[0].setting}: {', '.join(chosen)}")
    for warning in warnings(results):
        print(f"note: {warning}")


def _name(found: Comparison | Tuning) -> str:
    return f"{found.variant} {found.scale}".strip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
