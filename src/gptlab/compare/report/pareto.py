"""Quality against cost: which arms no other beats at both."""

from collections.abc import Callable, Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from gptlab.compare.report.picture import FAINT, Picture, color_of, looks, panels
from gptlab.compare.results import Cost, Results
from gptlab.compare.statistics import Better, median

COSTS: Mapping[str, Callable[[Cost], float | None]] = {
    "training FLOPs of a run": lambda cost: cost.flops_per_token * cost.tokens,
    "seconds of a run": lambda cost: None if cost.timed_beside else cost.seconds,
    "non-embedding parameters": lambda cost: cost.non_embedding,
    "KV-cache bytes per token": lambda cost: cost.kv_bytes_per_token,
}
MARKS = "osD^v"  # one for each size
SAME = 0.01  # costs that differ by less are one cost


def pareto(results: Results) -> Picture | None:
    """Draw the first metric against each cost that differs; None if none does."""
    metric = results.metrics[0]
    values = {
        (cost.variant, cost.scale): _values(results, cost, metric.name) for cost in results.costs
    }
    middles = {arm: median(found, metric.better) for arm, found in values.items()}
    refused = {(x.variant, x.scale) for x in results.comparisons if x.verdict == "not comparable"}
    costs = [
        cost
        for cost in results.costs
        if (arm := (cost.variant, cost.scale)) not in refused and middles[arm] is not None
    ]
    axes_of = {name: amount for name, amount in COSTS.items() if _differs(costs, amount)}
    if not axes_of:
        return None
    with looks():
        figure, places = panels(len(axes_of), 3.8, sharey=True)
        for axes, (name, amount) in zip(places, axes_of.items(), strict=True):
            points = []
            for cost in costs:
                arm = (cost.variant, cost.scale)
                x, middle = amount(cost), middles[arm]
                if x is not None and middle is not None:
                    points.append((x, middle))
                    _draw(axes, results, cost, x, values[arm], middle)
            _frontier(axes, points, metric.better)
            axes.set_xlabel(name)
            axes.xaxis.set_major_formatter(EngFormatter())
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
        places[0].set_ylabel(f"{metric.title} ({metric.unit})" if metric.unit else metric.title)
    down = "below" if metric.better == "lower" else "above"
    times = ", and times taken beside other runs," * any(cost.timed_beside for cost in costs)
    caption = (
        "Large dots are medians, small ones single seeds. The line joins the arms that no other "
        f"beats at both: nothing is to its left and {down}. Costs that are equal{times} are left "
        "out."
    )
    return Picture("pareto", f"{metric.title.capitalize()} against cost", caption, figure)


def frontier(points: list[tuple[float, float]], better: Better) -> list[tuple[float, float]]:
    """Keep the points that are better than every cheaper one, cheapest first."""
    sign, kept = (1 if better == "lower" else -1), []
    for x, y in sorted(points, key=lambda point: (point[0], sign * point[1])):
        if not kept or sign * y < sign * kept[-1][1]:
            kept.append((x, y))
    return kept


def _frontier(axes: Axes, points: list[tuple[float, float]], better: Better) -> None:
    kept = frontier(points, better)
    axes.step(*zip(*kept, strict=True), where="post", color=FAINT, linewidth=2, zorder=0)


def _draw(
    axes: Axes, results: Results, cost: Cost, x: float, found: list[float | None], middle: float
) -> None:
    color = color_of(results, cost.variant)
    known = [value for value in found if value is not None]
    axes.plot([x] * len(known), known, ".", color=color, alpha=0.4, markersize=5)
    mark = MARKS[results.scales.index(cost.scale) % len(MARKS)]
    label = f"{cost.variant} {cost.scale}".rstrip()
    axes.plot(x, middle, mark, color=color, markersize=8, label=label)


def _values(results: Results, cost: Cost, metric: str) -> list[float | None]:
    return [
        run.metrics.get(metric)
        for run in results.runs
        if run.role == "report" and run.state != "failed"
        if (run.variant, run.scale) == (cost.variant, cost.scale)
    ]


def _differs(costs: list[Cost], amount: Callable[[Cost], float | None]) -> bool:
    amounts = [x for cost in costs if (x := amount(cost)) is not None]
    return len(amounts) > 1 and max(amounts) > (1 + SAME) * min(amounts)
