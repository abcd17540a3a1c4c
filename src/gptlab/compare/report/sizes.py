"""Several sizes: the loss of every arm over them, and whether its gain survives."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from gptlab.compare.report.picture import INK, Picture, color_of, dashes_of, looks, panels
from gptlab.compare.results import Results
from gptlab.compare.scaling import fit, trend
from gptlab.compare.words import change, p_value


@dataclass(frozen=True)
class Arm:
    """Its non-embedding parameters at each scale, and the metric of each scale and seed."""

    size: dict[str, float]
    values: dict[str, dict[int, float]]


def sizes(results: Results) -> Picture | None:
    """Draw the first metric over sizes; None if there is one size."""
    metric = results.metrics[0]
    if len(results.scales) < 2 or metric.scale == "ratio":
        return None
    refused = {x.variant for x in results.comparisons if x.verdict == "not comparable"}
    names = [x.name for x in results.variants if x.name not in refused]
    arms = {name: arm for name in names if (arm := _arm(results, name)).values}
    if results.base not in arms:
        return None
    with looks():
        figure, [left, right] = panels(2, 3.8)
        remarks = [_draw_arm(left, results, name, arm) for name, arm in arms.items()]
        told = [_draw_gain(right, results, name, arms) for name in arms if name != results.base]
        right.axhline(0.0, color=INK, linewidth=1)
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xticks(list(arms[results.base].size.values()))
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.set_xlabel("non-embedding parameters")
        left.set_ylabel(metric.title)
        right.set_ylabel(f"difference from {results.base}")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    caption = f"Small dots are single seeds. {' '.join([*told, *dict.fromkeys(remarks)])}"
    return Picture("sizes", f"{metric.title.capitalize()} over sizes", caption, figure)


def _arm(results: Results, variant: str) -> Arm:
    size = {x.scale: float(x.non_embedding) for x in results.costs if x.variant == variant}
    values: dict[str, dict[int, float]] = {}
    for run in results.runs:
        value = run.metrics.get(results.metrics[0].name)
        if run.role == "report" and run.variant == variant and value is not None:
            values.setdefault(run.scale, {})[run.seed] = value
    return Arm(size, {scale: values[scale] for scale in results.scales if scale in values})


def _draw_arm(axes: Axes, results: Results, name: str, arm: Arm) -> str:
    """Draw the runs of an arm and its fitted curve; return its exponent, or why there is none."""
    color, dashes = color_of(results, name), dashes_of(results, name)
    points = [(arm.size[scale], value) for scale, x in arm.values.items() for value in x.values()]
    x, y = np.array(points).T
    axes.plot(x, y, ".", color=color, alpha=0.4)
    try:
        curve = fit([x], y)
    except ValueError as error:
        means = [float(np.mean(list(seeds.values()))) for seeds in arm.values.values()]
        at = [arm.size[scale] for scale in arm.values]
        axes.plot(at, means, ":", color=color, linewidth=1, label=name)
        return f"Points are joined, no curve is fitted: {error}."
    dense = np.geomspace(x.min(), x.max(), 100)
    axes.plot(dense, [curve.at(size) for size in dense], dashes, color=color, label=name)
    power = curve.exponents[0]
    return (
        f"{name}: the loss falls to {curve.floor.value:.3g} by N^-{power.value:.2g} "
        f"(exponent {power.low:.2g} to {power.high:.2g})."
    )


def _draw_gain(axes: Axes, results: Results, name: str, arms: dict[str, Arm]) -> str:
    """Draw the differences of one arm by size; return how they change."""
    base, ours = arms[results.base], arms[name].values
    pairs = {
        base.size[scale]: {seed: ours[scale][seed] - base.values[scale][seed] for seed in shared}
        for scale in base.values.keys() & ours.keys()
        if (shared := ours[scale].keys() & base.values[scale].keys())
    }
    pairs = dict(sorted(pairs.items()))
    color = color_of(results, name)
    for size, differences in pairs.items():
        axes.plot(
            [size] * len(differences), list(differences.values()), ".", color=color, alpha=0.4
        )
    means = [float(np.mean(list(x.values()))) for x in pairs.values()]
    axes.plot(list(pairs), means, "o-", color=color)
    if not pairs or (found := trend(pairs, results.confidence)) is None:
        return f"{name}: too few seeds to say how its difference changes."
    slope, p = found
    metric, near = results.metrics[0], (slope.high - slope.low) / 2
    low, middle, high = (change(x, metric, near) for x in (slope.low, slope.value, slope.high))
    return (
        f"{name}: at ten times the size its difference changes by {middle} "
        f"({low} to {high}, {p_value(p)})."
    )
