"""Differences from the base with their intervals: every variant a line, as in a medical review."""

import math

from matplotlib.axes import Axes

from gptlab.compare.report.picture import FAINT, INK, VERDICTS, Picture, looks, panels
from gptlab.compare.results import Comparison, Metric, Results
from gptlab.compare.words import size


def forest(results: Results, metric: Metric) -> Picture | None:
    """Draw the comparisons of a metric; None if none of them has a difference."""
    lines = [x for x in results.comparisons if x.metric == metric.name]
    if all(x.difference is None for x in lines):
        return None
    with looks():
        figure, [axes] = panels(1, 1.3 + 0.42 * len(lines))
        for place, line in enumerate(lines):
            _draw_line(axes, place, line, metric, _pairs(results, metric, line))
        zero = 1.0 if metric.scale == "ratio" else 0.0
        axes.axvline(_x(zero, metric), color=INK, linewidth=1)
        for place, line in enumerate(lines):
            if line.margin:
                reach, ends = _x(line.margin, metric), [place - 0.5, place + 0.5]
                axes.fill_betweenx(ends, -reach, reach, color=FAINT, alpha=0.4, linewidth=0)
        axes.set_yticks(range(len(lines)), [_label(line) for line in lines])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        unit = "%" if metric.scale == "ratio" else metric.unit
        sides = ("better", "worse") if metric.better == "lower" else ("worse", "better")
        axes.set_xlabel(
            f"← {sides[0]}      {metric.title}, difference from {results.base}"
            f"{f' ({unit})' if unit else ''}      {sides[1]} →"
        )
        if metric.scale == "ratio":
            axes.xaxis.set_major_formatter(lambda x, _: f"{100 * math.expm1(x):+.0f}")
    margins = dict.fromkeys(f"±{size(line.margin, metric)}" for line in lines if line.margin)
    grey = f" Grey: too small to matter, {', '.join(margins)}." if margins else ""
    caption = (
        "Large dots are means (medians, by ranks, where runs were lost), small ones single seeds. "
        f"Thick bars: {lines[0].confidence:.0%} "
        "interval of each line by itself; thin ones, which decide what is `no difference`, hold "
        f"for all at once.{grey}"
    )
    return Picture(f"forest-{metric.name}", f"Difference in {metric.title}", caption, figure)


def _draw_line(
    axes: Axes, place: int, line: Comparison, metric: Metric, pairs: list[float]
) -> None:
    color, sign = VERDICTS[line.verdict]
    words = f"{sign} {line.verdict}"
    axes.annotate(
        words, (1.01, place), xycoords=("axes fraction", "data"), va="center", color=color
    )
    if line.difference is None:
        return
    for low, high, width in (
        (line.family_low, line.family_high, 1.2),
        (line.low, line.high, 4.0),
    ):
        if low is not None and high is not None:
            ends = [_x(low, metric), _x(high, metric)]
            axes.plot(ends, [place, place], color=color, linewidth=width, solid_capstyle="butt")
    axes.plot(pairs, [place + 0.25] * len(pairs), ".", color=color, alpha=0.5, markersize=5)
    axes.plot(_x(line.difference, metric), place, "o", color=color, markersize=8)


def _pairs(results: Results, metric: Metric, line: Comparison) -> list[float]:
    """Take the difference of every seed that both arms have a value for."""
    arms: dict[str, dict[int, float]] = {line.base: {}, line.variant: {}}
    for run in results.runs:
        value = run.metrics.get(metric.name)
        is_shown = run.role == "report" and run.scale == line.scale and run.variant in arms
        if is_shown and value is not None:
            arms[run.variant][run.seed] = value
    base, variant = arms[line.base], arms[line.variant]
    seeds = sorted(base.keys() & variant.keys())
    if metric.scale == "ratio":
        return [_x(variant[seed] / base[seed], metric) for seed in seeds]
    return [variant[seed] - base[seed] for seed in seeds]


def _x(value: float, metric: Metric) -> float:
    """Place a difference; of a ratio by its logarithm, on which 1/2 is as far as 2."""
    return math.log(value) if metric.scale == "ratio" else value


def _label(line: Comparison) -> str:
    return f"{line.variant} ({line.scale})" if line.scale else line.variant
