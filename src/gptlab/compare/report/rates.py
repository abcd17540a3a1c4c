"""The tuning of every arm: the whole curve, and the point that was chosen."""

from matplotlib.axes import Axes

from gptlab.compare.report.picture import Picture, color_of, dashes_of, looks, panels
from gptlab.compare.results import Results, Tuning
from gptlab.compare.statistics import Better, median


def rates(results: Results, scale: str = "") -> Picture | None:
    """Draw what was tuned at one size; None if nothing was."""
    tuned = [x for x in results.tuning if x.scale == scale]
    if not tuned:
        return None
    settings = list(dict.fromkeys(x.setting for x in tuned))
    title = {metric.name: metric.title for metric in results.metrics}
    with looks():
        figure, axes = panels(len(settings), 3.6)
        for setting, place in zip(settings, axes, strict=True):
            for tuning in tuned:
                if tuning.setting == setting:
                    _draw(place, results, tuning)
            place.set_xscale("log")
            values = sorted({x.value for t in tuned if t.setting == setting for x in t.trials})
            place.set_xticks(values, [f"{value:.2g}" for value in values])
            place.set_xticks([], minor=True)
            place.set_xlabel(setting)
            place.set_ylabel(title.get(tuned[0].metric, tuned[0].metric))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    at_edge = [x.variant for x in tuned if x.edge]
    caption = (
        "Medians over the tuning seeds, which are not reported; dots are single runs, crosses "
        "at the top runs that diverged, triangles runs that failed, of which nothing is known. "
        "Circles: chosen."
    )
    if at_edge:
        caption += f" The best value is at the edge of what was tried for {', '.join(at_edge)}."
    name = f"tuning-{scale}" if scale else "tuning"
    return Picture(name, f"Tuning{f', {scale}' if scale else ''}", caption, figure)


def _draw(axes: Axes, results: Results, tuning: Tuning) -> None:
    color = color_of(results, tuning.variant)
    is_higher = any(x.name == tuning.metric and x.better == "higher" for x in results.metrics)
    better: Better = "higher" if is_higher else "lower"
    trials = sorted(tuning.trials, key=lambda trial: trial.value)
    middles = [(trial.value, median(trial.results, better)) for trial in trials if trial.results]
    known = [(value, middle) for value, middle in middles if middle is not None]
    for trial in trials:
        found = [x for x in trial.results if x is not None]
        axes.plot([trial.value] * len(found), found, ".", color=color, alpha=0.4)
        lost = {"x": len(trial.results) - len(found), "v": len(trial.failed)}
        for sign in [sign for sign, number in lost.items() if number]:
            axes.plot(trial.value, 0.98, sign, color=color, transform=axes.get_xaxis_transform())
    axes.plot(
        [value for value, _ in known],
        [middle for _, middle in known],
        color=color,
        linestyle=dashes_of(results, tuning.variant),
        label=tuning.variant,
    )
    chosen = [point for point in known if point[0] == tuning.chosen]
    for value, middle in chosen:
        axes.plot(value, middle, "o", color=color, markersize=11, fillstyle="none", mew=2)
