"""Probes as a picture: how recipes learn, and what runs do by position."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.probes.grid import Result
from gptlab.probes.reading import Findings
from gptlab.show._tokenizer_plot import COLORS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def save_results(title: str, results: Sequence[Result], file: Path) -> None:
    """Draw every trial of every task, and the accuracies at its end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.7 + 2.7 * len(results)), layout="constrained")
    grid = figure.subplots(len(results), 2, squeeze=False, width_ratios=(1.4, 1))
    for (left, right), result in zip(grid, results, strict=True):
        _curves(left, result)
        _bars(right, result)
    _finish(figure, [axes for pair in grid for axes in pair], f"Probes of {title}", file)


def save_findings(title: str, found: Sequence[Findings], file: Path) -> None:
    """Draw what a run does by position, and condition by condition."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.7 + 2.7 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for axes, each in zip(grid, found, strict=True):
        if each.curve:
            axes.plot(*zip(*each.curve, strict=True), color=COLORS[0], linewidth=1.8)
            axes.set_xlabel("position", fontsize=10, color=INK)
            axes.set_ylabel(each.measure, fontsize=10, color=INK)
        else:
            known = [finding for finding in each.findings if finding.value is not None]
            axes.barh(
                [finding.condition for finding in known],
                [finding.value for finding in known],
                xerr=[finding.error or 0.0 for finding in known],
                color=COLORS[0],
                height=0.6,
            )
            axes.invert_yaxis()
            axes.set_xlabel(each.measure, fontsize=10, color=INK)
        axes.set_title(each.task, loc="left", fontsize=10, color=INK)
    _finish(figure, list(grid), f"Probes of {title}", file)


def _curves(axes: "Axes", result: Result) -> None:
    for trial in result.trials:
        is_best = trial.lr == result.lr
        color = COLORS[0] if is_best else COLORS[5]
        name = f"lr {trial.lr:g}, seed {trial.seed}"
        steps, ways = zip(*trial.curve, strict=True)
        line = "-" if is_best else "--"
        axes.plot(steps, ways, line, color=color, linewidth=1.6, alpha=0.85)
        axes.annotate(name, (steps[-1], ways[-1]), (4, 0), textcoords="offset points", fontsize=7)
    axes.axhline(0, color=INK, linewidth=0.8, linestyle=":")
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylim(-0.15, 1.1)
    axes.margins(x=0.15)
    axes.set_yticks([0, 1], ["chance", "ceiling"])
    axes.set_xlabel("steps", fontsize=10, color=INK)
    axes.set_title(result.task, loc="left", fontsize=10, color=INK)


def _bars(axes: "Axes", result: Result) -> None:
    for place, condition in enumerate(result.conditions):
        found = [trial.accuracy[condition.name] for trial in result.best]
        axes.barh(place, result.accuracy(condition), color=COLORS[0], height=0.6, alpha=0.85)
        axes.plot(found, [place] * len(found), ".", color=INK, markersize=4, alpha=0.7)
        for mark, color in ((condition.chance, COLORS[3]), (condition.ceiling, INK)):
            axes.plot([mark] * 2, [place - 0.4, place + 0.4], color=color, linewidth=2)
    names = [condition.name for condition in result.conditions]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(
        "accuracy: median, every seed, chance (red), ceiling (dark)", fontsize=9, color=INK
    )


def _finish(figure: "Figure", all_axes: Sequence["Axes"], title: str, file: Path) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
