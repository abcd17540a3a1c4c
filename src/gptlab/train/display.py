"""What a person sees of a run: live lines in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
TEXT_WIDTH = 56  # of the longest text beside the bar, which has the rest


class Display:
    """Two lines that are redrawn in a terminal of 80 columns, or lines printed now and then."""

    def __init__(self, total_steps: int, console: Console | None = None):
        self.console = console or Console(file=sys.stderr, soft_wrap=True)
        self.is_live = self.console.is_interactive
        self.total_steps = total_steps
        self.step, self.results, self.pace = 0, "", ""
        self.last_plain = -PLAIN_SECONDS
        self.live = Live(
            get_renderable=self.frame,
            console=self.console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        if self.is_live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    def frame(self) -> Group:
        """Draw the live lines; what is too long for the terminal is cut, never wrapped."""
        top = Table.grid(padding=(0, 1))
        for _ in range(3):
            top.add_column(no_wrap=True)
        bar_width = max(4, min(24, self.console.width - TEXT_WIDTH))
        bar = ProgressBar(self.total_steps, self.step, width=bar_width)
        top.add_row(self._head(), bar, Text(self.pace))
        return Group(top, Text(self.results, no_wrap=True, overflow="ellipsis"))

    def update(self, step: int, results: str, pace: str, important: bool = False) -> None:
        """Show where the run is; an important line stays on the screen."""
        self.step, self.results, self.pace = step, results, pace
        if important:
            self._print(f"{self._head()} · {results}")
        elif not self.is_live and time.monotonic() - self.last_plain >= PLAIN_SECONDS:
            self._print(f"{self._head()} · {results} · {pace}")

    def announce(self, what: str) -> None:
        """Show, in a terminal, what is being done where a step takes longer than usual."""
        self.pace = what
        if self.is_live:
            self.live.refresh()

    def say(self, text: str) -> None:
        """Print a sentence above the live lines."""
        self.console.print(text, markup=False, highlight=False)

    def _head(self) -> str:
        return f"step {self.step:,}/{self.total_steps:,}"

    def _print(self, line: str) -> None:
        self.last_plain = time.monotonic()
        self.say(line)


def duration(seconds: float) -> str:
    """Format seconds the way people say them: 42s, 3m 05s, 2h 10m, 3d 4h."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m {s % 60:02}s"
    if s < 86400:
        return f"{s // 3600}h {s % 3600 // 60:02}m"
    return f"{s // 86400}d {s % 86400 // 3600}h"
