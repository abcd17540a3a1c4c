"""Lines of text that show how a block is wired."""

from collections.abc import Sequence


def shortcut(inner: Sequence[str], around: str = "") -> tuple[str, str]:
    """Draw a chain of boxes and the way around it, `around` written on it, added at its end."""
    chain = " ─ ".join(inner)
    way = f" {around} " if around else ""
    return f"┬─ {chain} ─ ⊕", f"└{way:─^{len(chain) + 5}}┘"


def in_a_row(pieces: Sequence[tuple[str, str]]) -> list[str]:
    """Put pieces of two lines each side by side, between `x ─` and `─ x`."""
    top, bottom = "x ", "  "
    for upper, lower in pieces:
        top, bottom = f"{top}─{upper}─", f"{bottom} {lower} "
    return [f"{top} x", bottom.rstrip()]
