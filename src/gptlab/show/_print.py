"""Tables and numbers as text: as wide as they must be in a file, folded in a terminal."""

from collections.abc import Sequence
from json import dumps
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDE = 10_000  # columns; what another program reads is never folded


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table under its title, with an empty line after it; numbers align on the right."""
    table = Table(
        *headings,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        show_header=any(headings),
    )
    for column, texts in zip(table.columns, zip(*rows, strict=True), strict=True):
        column.overflow = "fold"
        column.justify = "right" if all(text[:1].isdigit() for text in texts) else "left"
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDE
    with console.capture() as capture:
        console.print(title, style="bold")
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()), end="\n\n")


def plain(value: Any) -> str:
    """Write a setting's value as one would type it."""
    if value is None or isinstance(value, bool):
        return dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        settings = [f"{name}={plain(item)}" for name, item in value.items() if name != "type"]
        return value.get("type", "") + (f"({', '.join(settings)})" if settings else "")
    return str(value)


def rounded(number: float) -> str:
    """Write a large number with three digits and the prefix of a unit: `124 M`, `36.9 k`."""
    prefixes = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"]
    power = 0
    while number >= 999.5 and power < len(prefixes) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {prefixes[power]}"
