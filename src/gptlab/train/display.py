"""What a person sees of a run: a live line in a terminal, plain lines elsewhere."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


class Display:
    """A progress line that is redrawn in a terminal, and printed now and then elsewhere."""

    def __init__(self, total_steps: int, console: Console | None = None):
        self.console = console or Console(file=sys.stderr, soft_wrap=True)
        self.total_steps = total_steps
        self.last_plain = -PLAIN_SECONDS
        self.live = Progress(
            TextColumn("{task.fields[head]}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[line]}"),
            console=self.console,
            refresh_per_second=4,
            transient=True,
        )
        self.task = self.live.add_task("", total=total_steps, head="", line="")

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    def update(self, step: int, line: str, important: bool = False) -> None:
        """Show where the run is; an important line stays on the screen."""
        head = f"step {step:,}/{self.total_steps:,}"
        self.live.update(self.task, completed=step, head=head, line=escape(line))
        due = time.monotonic() - self.last_plain >= PLAIN_SECONDS
        if important or (due and not self.console.is_terminal):
            self.last_plain = time.monotonic()
            self.console.print(f"{head} · {line}", markup=False, highlight=False)

    def say(self, text: str) -> None:
        """Print a sentence above the progress line."""
        self.console.print(text, markup=False, highlight=False)


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
