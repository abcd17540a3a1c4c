"""Cutting long texts for a byte-pair encoder, so that its tokens stay the same.

Words are encoded one by one, so a text may be cut wherever two of them part anyway.
"""

import re
from collections.abc import Iterator

SECTION = 32_768  # characters, after which the next seam is taken
LONGEST = 262_144  # characters; a section without a seam is cut here, through a word if need be
LONG_WORD = 256  # characters; what training cuts longer words into
SEAM = re.compile(  # neither pattern lets a word go on from here
    r"(?<=\S) |(?<=[A-Za-z0-9])(?=[\n!-&(-/:-@\[-^`{-~])"
)
LONG_RUN = re.compile(rf"\S{{{LONG_WORD}}}|\s{{{LONG_WORD}}}")


def sections(text: str) -> Iterator[str]:
    """Cut a text into sections of about `SECTION` characters.

    Encoded one by one, they give the ids of the whole text. The exception is a text without any
    seam in `LONGEST` characters, which is cut all the same: its tokens may differ at that cut from
    those of the whole, never its bytes, and the time for it stays in proportion to its length.
    """
    start = 0
    while len(text) - start > SECTION:
        limit = start + LONGEST
        seam = SEAM.search(text, start + SECTION, limit)
        end = seam.start() if seam else limit
        yield text[start:end]
        start = end
    if text[start:]:
        yield text[start:]


def short_words(text: str) -> Iterator[str]:
    """Cut very long words, whose cost in training grows with the square of their length."""
    for section in sections(text):
        start = 0
        for run in LONG_RUN.finditer(section) if _may_have_a_long_run(section) else ():
            yield section[start : run.end()]
            start = run.end()
        yield section[start:]


def _may_have_a_long_run(text: str) -> bool:
    """Look at blocks, one of which lies inside of any long run: much quicker than the pattern."""
    block = LONG_WORD // 2
    blocks = (text[i : i + block] for i in range(0, len(text), block))
    return any(x.isspace() or len(x.split(None, 1)[0]) == block for x in blocks)
