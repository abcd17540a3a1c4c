"""The tables of a report, as plain text in cells; a page makes HTML of them, or Markdown."""

from dataclasses import dataclass

from gptlab.compare.report.picture import VERDICTS
from gptlab.compare.results import Comparison, Metric, Results
from gptlab.compare.words import change, p_value, rounded, signed, size

COSTS = [
    "",
    "parameters",
    "non-embedding",
    "training FLOPs/token",
    "tokens",
    "seconds",
    "tokens/s",
    "peak memory, bytes (estimate)",
    "KV bytes/token",
]
DIFFERENCES = ["interval", "for all at once", "in noise", "p (Holm)", "seeds", "verdict"]


@dataclass(frozen=True)
class Sheet:
    """A table. `codes`: columns that hold what one could type."""

    headings: list[str]
    rows: list[list[str]]
    codes: tuple[int, ...] = ()


def differences(results: Results, metric: Metric) -> Sheet:
    """Tell what was found by one metric."""
    rows = [_difference(x, metric) for x in results.comparisons if x.metric == metric.name]
    of = f" ({metric.unit})" if metric.unit else ""
    return Sheet(["", f"base{of}", "variant", "difference", *DIFFERENCES], rows)


def costs(results: Results) -> Sheet:
    """Tell what every arm costs, whatever it is worth."""
    rows = [
        [
            _arm(x.variant, x.scale),
            f"{x.parameters:,}",
            f"{x.non_embedding:,}",
            f"{x.flops_per_token:.4g}",
            f"{x.tokens:,}",
            _maybe(x.seconds, "{:,.1f}" + " *" * bool(x.timed_beside)),
            _maybe(x.tokens_per_second, "{:,.0f}" + " *" * bool(x.timed_beside)),
            _maybe(x.peak_memory_bytes, "{:,}"),
            f"{x.kv_bytes_per_token:,}",
        ]
        for x in results.costs
    ]
    return Sheet(COSTS, rows)


def changes(results: Results) -> Sheet:
    """Tell what each arm is, and what was solved for to bring it to the budget."""
    rows = []
    for variant in results.variants:
        matches = [x for x in results.budget.matches if x.variant == variant.name]
        solved = [
            f"{f'{match.scale}: ' if match.scale else ''}"
            + (" ".join(f"{name}={value}" for name, value in match.changed.items()) or "as it is")
            + f" → {match.reached:,.6g} ({match.reached / match.target - 1:+.2%})"
            + (f", really {match.took:,.6g}" if match.took is not None else "")
            for match in matches
        ]
        problems = "; ".join(match.problem for match in matches if match.problem)
        overrides = " ".join(variant.overrides) or "the base"
        rows.append([variant.name, overrides, "; ".join(solved) or "–", problems or "–"])
    axis = results.budget.axis
    return Sheet(
        ["", "change", f"brought to equal {axis or 'settings'}", "not matched"], rows, (1,)
    )


def findings(results: Results) -> Sheet:
    """Tell in what arms differ beside what they declare."""
    rows = [
        [_arm(x.variant, x.scale), x.what, x.base_value, x.variant_value, _severity(x.severity)]
        for x in results.findings
        if not x.declared
    ]
    return Sheet(["", "differs in", results.base, "variant", "so"], rows)


def runs(results: Results) -> Sheet:
    """List every run with its result and the command that repeats it."""
    first = results.metrics[0]
    rows = [
        [
            _arm(run.variant, run.scale),
            str(run.seed),
            run.role,
            f"{run.state}: {run.problem}" if run.problem else run.state,
            _value(run.metrics.get(first.name), first.name in run.metrics, first),
            run.folder,
            run.command,
        ]
        for run in results.runs
    ]
    headings = ["", "seed", "role", "state", first.title, "folder", "command"]
    return Sheet(headings, rows, (5, 6))


def _difference(found: Comparison, metric: Metric) -> list[str]:
    both = None not in (found.low, found.high)
    resolution = (found.high - found.low) / 2 if both else 0.0  # pyright: ignore
    return [
        _arm(found.variant, found.scale),
        _value(found.base_value, found.n_base, metric),
        _value(found.variant_value, found.n_variant, metric),
        _maybe_change(found.difference, metric, resolution),
        _between(found.low, found.high, metric, resolution),
        _between(found.family_low, found.family_high, metric, resolution),
        "–" if found.noise_ratio is None else f"{signed(found.noise_ratio, 1.0)} sd",
        "–"
        if found.p_adjusted is None
        else p_value(found.p_adjusted, min(found.alpha, 0.001))
        .removeprefix("p ")
        .removeprefix("= "),
        _seeds(found),
        f"{VERDICTS[found.verdict][1]} {_short(found, metric)}",
    ]


def _value(value: float | None, is_known: object, metric: Metric) -> str:
    if value is None:
        return metric.lost_means if is_known else "–"
    return rounded(value)


def _short(found: Comparison, metric: Metric) -> str:
    if found.verdict == "no difference" and found.margin:
        return f"no difference larger than {size(found.margin, metric)}"
    if found.verdict == "not resolved" and found.more_seeds:
        return f"not resolved: about {found.more_seeds:,} more seeds needed"
    return found.verdict


def _p(p: float, alpha: float) -> str:
    return p_value(p, min(alpha, 0.001)).removeprefix("p ").removeprefix("= ")


def _seeds(found: Comparison) -> str:
    lost = found.lost_variant + found.lost_base
    if found.method == "paired t" or found.n_variant == found.n_base:
        count = f"{len(found.seeds) or found.n_variant}"
    else:
        count = f"{found.n_variant} against {found.n_base}"
    return f"{count}, {lost} lost" if lost else count


def _between(low: float | None, high: float | None, metric: Metric, resolution: float) -> str:
    if low is None or high is None:
        return "–"
    return f"{change(low, metric, resolution)} to {change(high, metric, resolution)}"


def _maybe_change(difference: float | None, metric: Metric, resolution: float) -> str:
    return "–" if difference is None else change(difference, metric, resolution)


def _maybe(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _arm(variant: str, scale: str) -> str:
    return f"{variant} ({scale})" if scale else variant


def _severity(severity: str) -> str:
    return "not comparable" if severity == "refuses" else "noted"
