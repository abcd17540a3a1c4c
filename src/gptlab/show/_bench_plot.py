"""A record as a picture: every turn of every arm, and the ratios with their intervals."""

import math
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gptlab.bench.record import RUN, Record
from gptlab.show._bench_table import number, speeds
from gptlab.show._tokenizer_plot import COLORS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def save_plot(record: Record, file: Path) -> None:
    """Draw into a file; its suffix names the format, such as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.9 + 0.42 * len(record.arms)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _speeds(left, record)
    _ratios(right, record)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        axes.set_ylim(len(record.arms) - 0.4, -0.6)
    figure.suptitle(record.title, x=0.01, ha="left", fontsize=12, color=INK)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def _speeds(axes: "Axes", record: Record) -> None:
    is_race = record.unit == RUN
    for place, arm in enumerate(record.arms):
        found = sorted(speeds(record, arm.label))
        if is_race:
            found = sorted(1 / speed for speed in found if speed)
        middle = median(found) if found else math.inf
        color = COLORS[0] if place == 0 else COLORS[5]
        axes.barh(place, middle if found else 0, color=color, height=0.6, alpha=0.85)
        axes.plot(found, [place] * len(found), ".", color=INK, markersize=3.5, alpha=0.6)
        axes.text(
            max(found, default=0), place, f"  {number(middle)}", va="center", fontsize=9, color=INK
        )
    axes.set_yticks(range(len(record.arms)), [arm.label for arm in record.arms])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    axes.margins(x=0.15)
    what = "seconds" if is_race else f"{record.unit}/s"
    axes.set_xlabel(f"{what}: the median, and every turn", fontsize=10, color=INK)


def _ratios(axes: "Axes", record: Record) -> None:
    ratios = record.ratios()
    for place, arm in enumerate(record.arms):
        ratio = ratios.get(arm.label)
        if ratio is None or not math.isfinite(ratio.high):
            continue
        axes.plot([ratio.low, ratio.high], [place, place], color=COLORS[0], linewidth=2)
        axes.plot(ratio.median, place, "o", color=COLORS[0], markersize=6)
        text = f"{ratio.median:.2f}x"
        axes.annotate(text, (ratio.median, place), (0, 6), textcoords="offset points", fontsize=9)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks([])
    axes.margins(x=0.12)
    axes.set_xlabel(f"so many times as fast is {record.first}, with 95%", fontsize=10, color=INK)
