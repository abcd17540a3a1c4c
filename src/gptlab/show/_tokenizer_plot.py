"""The picture of `gptlab tokenizer report`: compression, and how the vocabulary is used."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gptlab import files
from gptlab.evaluate.tokens import TokenFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#2f6fab", "#d9822b", "#4a9a5b", "#b04a5a", "#7a5ea8", "#8a8a8a")
INK = "#333333"


def check_plot(file: Path) -> None:
    """Raise ValueError if a picture cannot be written there: by the file's suffix, or its place."""
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if file.suffix.removeprefix(".").lower() not in known:
        raise ValueError(f"--plot {file}: a picture's suffix is one of .{', .'.join(known)}")
    try:
        files.check_place(file)
    except ValueError as error:
        raise ValueError(f"--plot {error}") from None


def save_plot(facts: dict[str, TokenFacts], source: str, file: Path) -> None:
    """Draw tokenizers side by side into a file; its suffix names the format, such as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.9 + 0.25 * len(facts)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _bars(left, facts)
    _ranks(right, facts)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
    figure.suptitle(f"Tokenizers on {source}", x=0.01, ha="left", fontsize=12, color=INK)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def _bars(axes: "Axes", facts: dict[str, TokenFacts]) -> None:
    heights = [fact.bytes_per_token for fact in facts.values()]
    bars = axes.barh(list(facts), heights, color=_colors(facts), height=0.62)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=9, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("bytes per token", fontsize=10, color=INK)
    axes.tick_params(axis="y", length=0)


def _ranks(axes: "Axes", facts: dict[str, TokenFacts]) -> None:
    for (name, fact), color in zip(facts.items(), _colors(facts), strict=True):
        counts = np.sort(fact.counts[fact.counts > 0])[::-1]
        ranks = np.arange(1, len(counts) + 1)
        text = f"{name}: {fact.used:,} of {len(fact.counts):,}"
        axes.loglog(ranks, counts / fact.tokens, color=color, linewidth=1.8, label=text)
    axes.set_xlabel("tokens that occur, most frequent first", fontsize=10, color=INK)
    axes.set_ylabel("share of the text's tokens", fontsize=10, color=INK)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _colors(facts: dict[str, TokenFacts]) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(len(facts))]
