"""What all figures of a report have in common: their looks, and how they become files."""

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gptlab.compare.results import Results, Verdict

INK, FAINT = "#24292f", "#d0d7de"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b")
DASHES = ("-", "--", ":", "-.")
VERDICTS: dict[Verdict, tuple[str, str]] = {  # color and sign, so that neither is needed alone
    "better": ("#1a7f37", "✓"),
    "worse": ("#b42318", "✗"),
    "no difference": ("#57606a", "≈"),
    "not resolved": ("#9a6700", "?"),
    "not comparable": ("#6e40c9", "⊘"),
}
LOOKS: dict[Any, Any] = {
    "svg.hashsalt": "gptlab",  # the same figure is the same text
    "text.parse_math": False,  # a variant may be called $x$
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": "#eaeef2",
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, and what it shows in a sentence."""

    name: str
    title: str
    caption: str
    figure: Figure

    def svg(self) -> bytes:
        return self._as("svg", metadata={"Date": None})

    def png(self) -> bytes:
        return self._as("png", dpi=150)

    def _as(self, form: str, **options: Any) -> bytes:
        file = io.BytesIO()
        with looks():
            self.figure.savefig(file, format=form, facecolor="white", **options)
        return file.getvalue()


def looks():
    """Draw within this, so that nobody's own settings of matplotlib show."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **LOOKS, "backend": "agg"})


def panels(count: int, height: float, width: float = 10.0, sharey: bool = False):
    """Make a figure with some axes side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes: list[Axes] = figure.subplots(1, count, squeeze=False, sharey=sharey)[0].tolist()
    return figure, axes


def color_of(results: Results, variant: str) -> str:
    if variant == results.base:
        return INK
    others = [x.name for x in results.variants if x.name != results.base]
    return PALETTE[others.index(variant) % len(PALETTE)]


def dashes_of(results: Results, variant: str) -> str:
    """Vary the line as well when there are more variants than colors."""
    others = [x.name for x in results.variants if x.name != results.base]
    place = others.index(variant) if variant in others else 0
    return DASHES[place // len(PALETTE) % len(DASHES)]
