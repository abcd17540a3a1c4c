"""A comparison as a sentence that begins with its verdict and needs nothing beside it."""

from gptlab.compare.needed import MOST_REPEATS
from gptlab.compare.power import MOST_SEEDS
from gptlab.compare.results import Comparison, Metric
from gptlab.compare.words import amount, change, p_value, percent, size


def in_words(metric: Metric, found: Comparison, refusal: str = "") -> str:
    """Say what was found; `refusal`: why the two are not comparable."""
    if found.verdict == "not comparable":
        return f"not comparable: {refusal}"
    if found.verdict == "not resolved":
        return _not_resolved(metric, found)
    if found.verdict == "no difference":
        is_there = found.p_adjusted is not None and found.p_adjusted <= found.alpha
        remark = f"; {_p(found)}, but too small to matter" if is_there else ""
        return (
            f"no difference larger than {size(found.margin or 0.0, metric)}: "
            f"{_change(metric, found)} ({_interval(metric, found)}{remark})"
        )
    remark = "; less than the margin" if _is_small(metric, found) else ""
    return f"{found.verdict}: {_change(metric, found)} ({_evidence(metric, found)}{remark})"


def _not_resolved(metric: Metric, found: Comparison) -> str:
    if not found.n_variant or not found.n_base:
        return (
            f"not resolved: no run of {found.base if found.n_variant else found.variant} finished"
        )
    if found.method == "one seed":
        k = f"; about {found.more_seeds:,} more seeds needed" if found.more_seeds else ""
        return f"not resolved: one seed, so no interval{k} ({_change(metric, found)})"
    if found.p_adjusted is not None and found.p_adjusted <= found.alpha:
        return f"not resolved: what is better by ranks fails more often ({_lost(metric, found)})"
    if found.method == "ranks" and found.p == 1 and found.more_seeds is None:
        return f"not resolved: as good as each other run by run ({_change(metric, found)})"
    k = f"about {found.more_seeds:,}" if found.more_seeds else _at_least(found)
    evidence = f"{_change(metric, found)}; {_evidence(metric, found)}"
    return f"not resolved: {k} more seeds needed ({evidence})"


def _at_least(found: Comparison) -> str:
    """Say how many seeds would not do: of ranks, no more than so many were tried."""
    most = (MOST_REPEATS - 1) * min(found.n_variant, found.n_base)
    return f"more than {most if found.method == 'ranks' else MOST_SEEDS:,}"


def _change(metric: Metric, found: Comparison) -> str:
    if found.difference is None:
        values = (found.variant_value, found.base_value)
        return " against ".join(amount(value, metric) for value in values)
    unit = "" if metric.scale == "ratio" else metric.unit
    return f"{change(found.difference, metric, _resolution(found))} {unit}".rstrip()


def _evidence(metric: Metric, found: Comparison) -> str:
    if found.method == "ranks":
        return f"medians, by ranks, {_p(found)}{_lost(metric, found, ', ')}"
    return f"{_interval(metric, found)}, {_p(found)}"


def _p(found: Comparison) -> str:
    if found.p_adjusted is None:
        return ""
    holm = f" by Holm over {found.family}" if found.family > 1 else ""
    p = p_value(found.p_adjusted, min(found.alpha, 0.001))
    return f"{p}{holm} where look {found.look} asks for {found.alpha:.2g}"


def _interval(metric: Metric, found: Comparison) -> str:
    ends, confidence = (found.low, found.high), found.confidence
    if found.verdict == "no difference":
        ends, confidence = (found.family_low, found.family_high), 1 - found.alpha
    low, high = (change(end, metric, _resolution(found)) for end in ends if end is not None)
    return f"{percent(confidence)} interval {low} to {high}"


def _lost(metric: Metric, found: Comparison, before: str = "") -> str:
    if not found.lost_variant + found.lost_base:
        return ""
    ours, theirs = (
        f"{found.lost_variant} of {found.n_variant}",
        f"{found.lost_base} of {found.n_base}",
    )
    return f"{before}{ours} {metric.lost_means}, {theirs} of the base"


def _resolution(found: Comparison) -> float:
    if found.low is None or found.high is None:
        return 0.0
    return (found.high - found.low) / 2


def _is_small(metric: Metric, found: Comparison) -> bool:
    if found.difference is None or found.margin is None:
        return False
    if metric.scale == "ratio":
        return 1 / found.margin < found.difference < found.margin
    return abs(found.difference) < found.margin
