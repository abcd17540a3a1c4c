"""What a person sees of a run, in terminals of any width and without one."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from gptlab.train import display
from gptlab.train.display import Display, duration

RESULTS = "921,600 tokens · loss 2.345 · val 2.1234 · 3.034 bits/byte"
PACE = "41,022 tokens/s · 3m 05s left"


def console(width: int, is_terminal: bool = True) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=is_terminal,
        soft_wrap=True,
        legacy_windows=False,
    )


def lines(shown: Display) -> list[str]:
    """Draw the live lines as they stand in the terminal."""
    with shown.console.capture() as capture:
        shown.console.print(shown.frame())
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capture.get().splitlines()]


def test_a_terminal_of_80_columns_shows_everything():
    shown = Display(2_000, console(80))
    shown.update(1_200, RESULTS, PACE)
    top, below = lines(shown)
    assert top.startswith("step 1,200/2,000 ━")
    assert top.rstrip().endswith(f"━ {PACE}")
    assert below.rstrip() == RESULTS
    assert max(map(len, (top, below))) <= 80


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 200])
def test_lines_are_cut_and_never_wrapped(width: int):
    shown = Display(1_000_000, console(width))
    shown.update(999_999, RESULTS.replace("921,600", "123,456,789,012"), PACE)
    drawn = lines(shown)
    assert len(drawn) == 2
    assert max(map(len, drawn)) <= width


def test_important_lines_stay_and_texts_are_no_markup():
    shown = Display(10, console(80))
    with shown:
        shown.update(5, "loss 1", "[bold]fast[/bold]")
        shown.announce("evaluating [red]")
        shown.update(5, "loss 1 · val 2", PACE, important=True)
        shown.say("a [sentence]")
    written = shown.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "evaluating [red]" in written
    assert "step 5/10 · loss 1 · val 2\n" in written
    assert "a [sentence]\n" in written
    assert written.index("\x1b[?25l") < written.rindex("\x1b[?25h")


@pytest.mark.parametrize("kind", ["a file", "a dumb terminal"])
def test_without_a_terminal_lines_come_now_and_then(kind: str, monkeypatch: pytest.MonkeyPatch):
    if kind == "a dumb terminal":
        monkeypatch.setenv("TERM", "dumb")
    clock = iter([100.0, 100.0, 105.0, 109.9, 110.0, 110.0, 111.0])
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    shown = Display(10, console(30, is_terminal=kind != "a file"))
    with shown:
        for step in range(1, 5):
            shown.update(step, RESULTS, PACE)
        shown.announce("evaluating")
        shown.update(4, RESULTS, PACE, important=True)
    written = shown.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert written.splitlines() == [
        f"step 1/10 · {RESULTS} · {PACE}",
        f"step 4/10 · {RESULTS} · {PACE}",
        f"step 4/10 · {RESULTS}",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (86399, "23h 59m"),
        (86400, "1d 0h"),
        (300000, "3d 11h"),
    ],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text
