"""`gptlab tokenizer show`: what a tokenizer makes of a text, piece by piece."""

from collections.abc import Iterator
from typing import BinaryIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gptlab.tokenizer import Encoder

STYLES = [f"black on {color}" for color in ("#a8d5e2", "#f9d99a", "#c7e5b4", "#f4b8b0", "#d4c5ea")]
SPECIAL_STYLE = "bold white on #444444"


def read_text(stream: BinaryIO) -> str:
    """Read standard input. Raises ValueError if it is not UTF-8."""
    content = stream.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"standard input is not UTF-8: byte 0x{content[error.start]:02x} at position "
            f"{error.start:,}"
        ) from None


def show_pieces(encoder: Encoder, text: str, allow_special: bool = False) -> None:
    """Print the tokens of a text: coloured in rows in a terminal, one a line elsewhere."""
    ids = encoder.encode(text, allow_special).tolist()
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        for id in ids:
            print(f"{id:>7}  {label(encoder, id, quoted=True)}")
        return
    for row in rows(encoder, ids, console.width):
        console.print(row, no_wrap=True, crop=False)
    n_bytes = len(text.encode("utf-8"))
    rate = f", {n_bytes / len(ids):.2f} bytes per token" if ids else ""
    console.print(f"\n{len(ids):,} tokens, {n_bytes:,} bytes{rate}", style="dim")


def rows(encoder: Encoder, ids: list[int], width: int) -> Iterator[Text]:
    """Draw pieces above their ids, in as many rows as the width asks for."""
    pieces, numbers = Text(), Text()
    special = set(encoder.special.values())
    for place, id in enumerate(ids):
        piece = label(encoder, id)
        cell = max(cell_len(piece), len(str(id))) + 1
        if pieces.cell_len and pieces.cell_len + cell > width:
            yield from (pieces, numbers)
            pieces, numbers = Text(), Text()
        style = SPECIAL_STYLE if id in special else STYLES[place % len(STYLES)]
        pieces.append(piece, style).append(" " * (cell - cell_len(piece)))
        numbers.append(str(id), "dim").append(" " * (cell - len(str(id))))
    if pieces:
        yield from (pieces, numbers)


def label(encoder: Encoder, id: int, quoted: bool = False) -> str:
    """Write a token so that it can be seen: what does not print, or is no text, as an escape."""
    content = encoder.bytes_of(id)
    if not content:
        return next(spelling for spelling, number in encoder.special.items() if number == id)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return repr(content) if quoted else repr(content)[2:-1]
    if quoted:
        return repr(text)
    return "".join(x if x.isprintable() else repr(x)[1:-1] for x in text)
