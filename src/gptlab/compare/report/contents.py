"""What a report says and shows, in its order, whatever it is written in."""

from gptlab.compare.report.curves import curves
from gptlab.compare.report.forest import forest
from gptlab.compare.report.pareto import pareto
from gptlab.compare.report.picture import Picture
from gptlab.compare.report.rates import rates
from gptlab.compare.report.sizes import sizes
from gptlab.compare.results import Comparison, Metric, NoiseOfMetric, Results, Run
from gptlab.compare.words import signed

COSTS = {
    "non_embedding": "parameters",
    "flops_per_token": "FLOPs/token",
    "tokens": "tokens",
    "seconds": "time",
    "tokens_per_second": "tokens/s",
    "peak_memory_bytes": "memory (estimate)",
    "kv_bytes_per_token": "KV cache",
}
OF_TIME = ("seconds", "tokens_per_second")
TIMES = (
    "Seconds and tokens/s are medians over the runs as they went. Those with a * were timed beside "
    "other runs, with a share of the cores, and are no costs of the arm: remove the folders of "
    "these runs and use --jobs 1 to time them alone (which makes other results, and so another "
    "look)."
)
METHOD = (
    "Differences are variant - base (times and speeds: variant / base). Runs of one seed have the "
    "same batches and the same initial values of what they share, so they are compared in pairs: "
    "mean, t interval, p of the t test; arms of other seeds by Welch's; where runs diverged or "
    "never got there, by ranks with those last, never by an average. p is Holm's over all "
    "variants of a metric, each metric and size by itself. no difference larger than M: the "
    "interval that holds for all variants at once, at this look, lies within ±M, which was "
    "declared or is 0.5% of the base; an M that is only the noise floor says nothing of what "
    "matters, and there better and worse go before. better or worse: else, and p is at most what "
    "the look asks for. A look is a set of runs whose results were judged; the first may spend "
    "80% of {alpha:.0%}, every later one much less, so that with all of them together at most "
    "{alpha:.0%} of studies find what is not there, whatever is added after results were seen. "
    "not resolved: neither; the number of seeds is what finds the difference seen, or excludes M, "
    "in four of five studies, at the next look. not comparable: the arms differ in what was not "
    "declared, or, by a metric of tokens, in their tokenizer."
)


def answers(results: Results) -> list[Comparison]:
    """Take the comparisons by the first metric, which decide the study."""
    return [x for x in results.comparisons if x.metric == results.metrics[0].name]


def facts(results: Results) -> dict[str, str]:
    """Say what was done."""
    metric, reported = results.metrics[0], [x for x in results.runs if x.role == "report"]
    ended = sum(run.state == "done" for run in reported)
    tried = len(results.runs) - len(reported)
    facts = {
        "base": results.base,
        "decided by": f"{metric.title}, {metric.better} is better",
        "budget": results.budget.text or "the same settings but for the change",
        "seeds": ", ".join(map(str, results.seeds)),
        "runs": f"{ended} of {len(reported)} reported ones ended well"
        + (f", {tried} more for tuning" if tried else ""),
        "matters": _margin(results),
        "look": _look(results),
        "noise floor": _noise(results),
    }
    if results.scales != [""]:
        facts["sizes"] = ", ".join(results.scales)
    return facts


def warnings(results: Results) -> list[str]:
    """Collect what a reader should know before believing anything."""
    found = list(results.notes)
    found += _unfinished(results)
    found += [
        f"{match.variant} {match.scale}".rstrip() + f" is not at the budget: {match.problem}"
        for match in results.budget.matches
        if match.problem
    ]
    found += [
        f"{tuning.variant} {tuning.scale}".rstrip()
        + f": the best {tuning.setting} is at the edge of what was tried ({tuning.chosen:g})"
        for tuning in results.tuning
        if tuning.edge
    ]
    if len(results.seeds) == 1:
        found.append("one seed: differences have no interval, and nothing can be concluded")
    return found


def pictures(results: Results) -> dict[str, list[Picture]]:
    """Draw everything that there is something to draw of, by section."""
    first, *others = [forest(results, metric) for metric in results.metrics]
    drawn = {
        "The answer": [first],
        "Loss on the way": [curves(results, scale) for scale in results.scales],
        "Does it survive scale?": [sizes(results)],
        "Quality against cost": [pareto(results)],
        "Tuning": [rates(results, scale) for scale in results.scales],
        "Other metrics": others,
    }
    return {section: [x for x in some if x is not None] for section, some in drawn.items()}


def cost_beside(results: Results, found: Comparison) -> str:
    """Say in what the costs of a variant differ from those of the base, by one percent or more.

    Times that were taken beside other runs are none.
    """
    costs = {x.variant: x for x in results.costs if x.scale == found.scale}
    if found.variant not in costs or found.base not in costs:
        return ""
    base, ours = (costs[name].model_dump() for name in (found.base, found.variant))
    left_out = OF_TIME if base["timed_beside"] or ours["timed_beside"] else ()
    changes = {
        words: ours[name] / base[name] - 1
        for name, words in COSTS.items()
        if name not in left_out and ours[name] is not None and base[name]
    }
    told = [f"{words} {signed(100 * x, 10.0)}%" for words, x in changes.items() if abs(x) >= 0.01]
    if told:
        return f"costs: {', '.join(told)}"
    return "costs the same" + ", but for time, which was not taken alone" * bool(left_out)


def on_times(results: Results) -> str:
    """Say what the times of the costs are, where some of them are none."""
    return TIMES if any(cost.timed_beside for cost in results.costs) else ""


def _unfinished(results: Results) -> list[str]:
    """Gather the runs that did not end well, those of one arm in one line."""
    groups: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.state != "done":
            what = f"{run.variant} {run.scale}".rstrip() + f": {run.state} ({run.role})"
            groups.setdefault(what, []).append(run)
    return [
        f"{what}, seed {', '.join(str(run.seed) for run in some)}: {some[0].problem}"
        for what, some in groups.items()
    ]


def _look(results: Results) -> str:
    """Say how often the study was judged, by what decides it, and what that leaves."""
    looks = {x.look: x.alpha for x in answers(results)}
    if not looks:
        return "–"
    number = max(looks)
    text = f"{number}, where better or worse takes p of at most {looks[number]:.2g}"
    if number == 1:
        return text
    return f"{text}: other results of this study were judged before, {number - 1} in number"


def _margin(results: Results) -> str:
    metric = results.metrics[0]
    if metric.margin is not None:
        return f"{metric.margin:.3g} ({metric.margin_source})"
    found = {x.scale: x.margin for x in answers(results) if x.margin is not None}
    return ", ".join(f"{scale} {margin:.3g}" for scale, margin in found.items()) or "–"


def _noise(results: Results) -> str:
    """Say what is known of the noise, size by size."""
    metric = results.metrics[0]
    told = [
        f"{scale} {_spread(floor.metrics[metric.name], metric)}".lstrip()
        for scale, floor in results.noise.items()
        if metric.name in floor.metrics
    ]
    return "; ".join(told) or "not measured (gptlab noise)"


def _spread(noise: NoiseOfMetric, metric: Metric) -> str:
    ends = f"{noise.low:.2g} to {noise.high:.2g}"
    return f"sd {noise.sd:.2g} {metric.unit} over {noise.n} seeds ({ends})"
