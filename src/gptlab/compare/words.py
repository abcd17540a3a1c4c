"""Numbers and differences of metrics as a person reads them."""

import math

from gptlab.compare.results import Metric


def number(value: float, resolution: float) -> str:
    """Write a number with as many digits as matter beside `resolution`: two of it."""
    if resolution <= 0 or not math.isfinite(resolution):
        return f"{value:.3g}"
    decimals = 1 - math.floor(math.log10(resolution))
    return f"{value:,.{min(max(decimals, 0), 12)}f}"


def amount(value: float | None, metric: Metric) -> str:
    """Write a value of a metric with its unit; a run that has none is lost."""
    if value is None:
        return metric.lost_means
    return f"{rounded(value)} {metric.unit}".rstrip()


def rounded(value: float) -> str:
    """Write a value with four digits, or all of those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def change(difference: float, metric: Metric, resolution: float = 0.0) -> str:
    """Write a difference with its sign, without its unit; of a ratio, what it adds in percent."""
    if metric.scale == "ratio":
        return f"{signed(100 * (difference - 1), 100 * resolution)}%"
    return signed(difference, resolution)


def size(margin: float, metric: Metric) -> str:
    """Write how large a difference is, whatever its sign."""
    if metric.scale == "ratio":
        return f"{100 * (margin - 1):.2g}%"
    return f"{margin:.2g} {metric.unit}".rstrip()


def signed(value: float, resolution: float) -> str:
    text = number(abs(value), resolution)
    if not text.strip("0.,"):
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def p_value(p: float, least: float = 0.001) -> str:
    return f"p < {least:.2g}" if p < least else f"p = {p:.2g}"


def percent(share: float) -> str:
    """Write a share that may be close to all: 95%, 99.75%."""
    return f"{100 * share:.4g}%"
