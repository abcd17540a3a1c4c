"""Loss on the way: means over seeds with the range of all of them, against what it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from gptlab.compare.report.picture import Picture, color_of, dashes_of, looks, panels
from gptlab.compare.results import Curve, Results

AXES = (("tokens", "tokens"), ("flops", "training FLOPs"), ("seconds", "seconds"))
EARLY = 0.3  # of a run: what is above the loss there is cut off, or nothing later can be seen


@dataclass(frozen=True)
class Band:
    """The steps that all runs of an arm report, and their losses there: mean, least, most."""

    x: dict[str, list[float]]
    mean: list[float]
    low: list[float]
    high: list[float]


def curves(results: Results, scale: str = "") -> Picture | None:
    """Draw the losses of one size; None if no run has any."""
    bands = {
        variant.name: band
        for variant in results.variants
        if (band := band_of(_curves_of(results, variant.name, scale)))
    }
    if not bands:
        return None
    with looks():
        figure, axes = panels(len(AXES), 3.6, sharey=True)
        for (name, label), place in zip(AXES, axes, strict=True):
            for variant, band in bands.items():
                _draw(place, results, variant, band, name)
            place.set_xlabel(label)
            if name != "seconds":
                place.xaxis.set_major_formatter(EngFormatter(sep=""))
            place.set_xlim(left=0)
        axes[0].set_ylabel("validation loss (nats per token)")
        axes[0].set_ylim(*_limits(list(bands.values())))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    name = f"curves-{scale}" if scale else "curves"
    beside = any(cost.timed_beside for cost in results.costs if cost.scale == scale)
    caption = (
        "Means over the seeds of runs that ended well; the bands hold all of them"
        + "; times taken beside other runs are drawn as they went" * beside
        + "."
    )
    title = f"Loss on the way{f', {scale}' if scale else ''}"
    return Picture(name, title, caption, figure)


def band_of(runs: Sequence[Curve]) -> Band | None:
    """Gather the curves of an arm at the steps that each of them has a validation loss for."""
    points = [
        {
            step: {"tokens": tokens, "flops": flops, "seconds": seconds, "loss": loss}
            for step, tokens, flops, seconds, loss in zip(
                run.steps, run.tokens, run.flops, run.seconds, run.val_loss, strict=True
            )
            if loss is not None
        }
        for run in runs
    ]
    common = sorted(set.intersection(*map(set, points))) if points else []
    if not common:
        return None
    losses = [[run[step]["loss"] for run in points] for step in common]
    x = {
        name: [math.fsum(run[step][name] for run in points) / len(points) for step in common]
        for name, _ in AXES
    }
    means = [math.fsum(some) / len(some) for some in losses]
    return Band(x, means, [min(some) for some in losses], [max(some) for some in losses])


def _curves_of(results: Results, variant: str, scale: str) -> list[Curve]:
    return [
        run.curve
        for run in results.runs
        if run.role == "report" and (run.variant, run.scale) == (variant, scale)
        if run.state == "done"
    ]


def _draw(axes: Axes, results: Results, variant: str, band: Band, name: str) -> None:
    color, x = color_of(results, variant), band.x[name]
    axes.fill_between(x, band.low, band.high, color=color, alpha=0.15, linewidth=0)
    dashes = dashes_of(results, variant)
    mark = "o" if len(x) == 1 else ""
    axes.plot(x, band.mean, color=color, linestyle=dashes, marker=mark, label=variant)


def _limits(bands: list[Band]) -> tuple[float, float]:
    lowest = min(min(band.low) for band in bands)
    starts = []
    for band in bands:
        early = EARLY * band.x["tokens"][-1]
        starts += [high for x, high in zip(band.x["tokens"], band.high, strict=True) if x >= early]
    highest = max(starts)
    room = 0.05 * (highest - lowest) or 0.05
    return lowest - room, highest + room
