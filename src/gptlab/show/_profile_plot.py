"""The picture of `gptlab show --profile`: the time of each part, and the least it could take."""

from pathlib import Path
from typing import Any

from gptlab.show._tokenizer_plot import COLORS, INK

ORDER = (
    *("batch", "embedding", "norm", "attention", "mlp", "residual", "multi_token", "head"),
    *("clipping", "optimizer", "rest"),
)
NAMES = {
    "multi_token": "multi-token heads",
    "head": "head and loss",
    "rest": "rest: python, reading the loss",
}
FORWARD, BACKWARD, LIMIT = COLORS[0], COLORS[1], "#222222"


def in_order(parts: dict[str, Any]) -> dict[str, Any]:
    """Sort parts as a step comes to them."""
    return {name: parts[name] for name in sorted(parts, key=ORDER.index)}


def save_plot(facts: dict[str, Any], file: Path) -> None:
    """Draw what `measure` found into a file; its suffix names the format, such as PNG."""
    from matplotlib.figure import Figure

    parts, step = in_order(facts["parts"]), facts["step"]
    names = [NAMES.get(name, name) for name in parts]
    forward, backward = (
        [1e3 * part[way] for part in parts.values()] for way in ("forward", "backward")
    )
    figure = Figure(figsize=(9, 1.8 + 0.36 * len(parts)), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, forward, color=FORWARD, height=0.66, label="forward, or once")
    bars = axes.barh(names, backward, left=forward, color=BACKWARD, height=0.66, label="backward")
    labels = [f"{part['share']:.0%}" for part in parts.values()]
    axes.bar_label(bars, labels, padding=5, fontsize=9, color=INK)
    limits = [
        1e3 * (part["forward"] + part["backward"]) * max(part["of_peak"], part["of_bandwidth"])
        for part in parts.values()
    ]
    axes.scatter(
        limits,
        names,
        marker="|",
        s=190,
        linewidths=2.2,
        color=LIMIT,
        zorder=3,
        label=_legend(facts),
    )
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds of a step", fontsize=10, color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="best", markerscale=0.6)
    title = (
        f"{facts['name']}: {1e3 * step['seconds']:,.1f} ms a step, "
        f"{step['tokens_per_second']:,.0f} tokens/s, {step['of_peak']:.0%} of peak"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def _legend(facts: dict[str, Any]) -> str:
    return (
        f"at the machine's limit: {facts['peak_flops'] / 1e9:,.0f} GFLOP/s, "
        f"{facts['bandwidth'] / 1e9:,.1f} GB/s"
    )
