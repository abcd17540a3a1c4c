"""From the bytes or texts of documents to fragments, with one rule for what is not text."""

from collections.abc import Iterable, Iterator

from gptlab.data.formats import Errors, Fragment
from gptlab.data.formats._sections import SECTION, sections


def from_text(text: str, where: str, errors: Errors) -> Iterator[Fragment]:
    """Make fragments of a text that was a value in a record. `where` names it in an error."""
    if len(text) <= SECTION // 4 and "\0" not in text and _is_unicode(text):
        yield Fragment(text)
        return
    content = text.encode("utf-8", "surrogatepass")
    yield from from_sections(sections([content]), where, 0, errors)


def from_sections(
    cut: Iterable[bytes],
    where: str,
    place: int,
    errors: Errors,
    begins: bool = True,
    ends: bool = True,
) -> Iterator[Fragment]:
    """Make a fragment of each section. `place`: where the first begins in what `where` names.

    begins, ends: whether the document's first and last sections are among them.
    """
    first, held = begins, None
    for section in cut:
        if held is not None:
            yield Fragment(held[0], first, False, held[1])
            first = False
        held = _decode(section, where, place, errors)
        place += len(section)
    assert held is not None
    yield Fragment(held[0], first, ends, held[1])


def _decode(content: bytes, where: str, place: int, errors: Errors) -> tuple[str, bool]:
    """Decode a section, and tell whether it was wrong. Raises ValueError naming the byte."""
    wrong = content.find(b"\0")
    try:
        text = content.decode("utf-8")
        if wrong < 0:
            return text, False
    except UnicodeDecodeError as error:
        wrong = error.start if wrong < 0 else min(wrong, error.start)
    if errors == "strict":
        what = "NUL" if content[wrong] == 0 else f"0x{content[wrong]:02x}"
        raise ValueError(
            f"{where}: not UTF-8 text: byte {place + wrong:,} is {what} "
            "(--errors replace or --errors skip goes on)"
        )
    if errors == "skip":
        return "", True
    return content.decode("utf-8", "replace").replace("\0", "\ufffd"), True


def _is_unicode(text: str) -> bool:
    """Tell whether a text has no half of a surrogate pair, which JSON can spell."""
    try:
        return text.isascii() or bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False
