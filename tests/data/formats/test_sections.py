"""Sections: the same places however the bytes arrive, and all the bytes."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from gptlab.data import formats
from gptlab.data.formats import Reading, _sections
from gptlab.data.formats._sections import sections
from gptlab.data.formats.text import cut_near

TEXTS = {
    "words": ("some words of naïve text\n" * 2000).encode(),
    "seams far apart": (b"y" * 83 + b" ") * 400,
    "one letter": b"x" * 20_000,
    "no space, four bytes each": ("🙂" * 5000).encode(),
    "not UTF-8": b"\x80" * 9000,
    "spaces": b" " * 9000,
    "a few": b"a b",
    "none": b"",
    "just a section": b"y" * 1024,
    "a section and a character": b"y" * 1021 + "🙂".encode(),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sections, "SECTION", 1024)
    monkeypatch.setattr(_sections, "WINDOW", 100)
    monkeypatch.setattr("gptlab.data.formats.text.SECTION", 1024)
    monkeypatch.setattr("gptlab.data.formats.text.WINDOW", 100)


@pytest.mark.parametrize("name", TEXTS)
def test_sections_do_not_depend_on_chunks(name: str):
    content = TEXTS[name]
    whole = list(sections([content]))
    assert b"".join(whole) == content
    assert all(len(section) <= 1024 + 101 for section in whole)
    draw = random.Random(0)
    for _ in range(20):
        cuts = sorted(draw.randrange(len(content) + 1) for _ in range(draw.randrange(40)))
        edges = [0, *cuts, len(content)]
        chunks = [content[a:b] for a, b in pairwise(edges)]
        assert list(sections(chunks)) == whole


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("size", [1024, 3072])
def test_any_section_is_found_by_itself(name: str, size: int, tmp_path: Path):
    content = TEXTS[name]
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    reading = Reading(errors="replace")
    spans = formats.spans(file, size, reading)
    assert sum(n for _, n in spans) == len(content)
    found = [f for span, _ in spans for f in formats.fragments(span, reading)]
    expected = [s.decode("utf-8", "replace") for s in sections([content])]
    assert [f.text for f in found] == expected
    assert [f.first for f in found] == [True] + [False] * (len(found) - 1)
    assert [f.last for f in found] == [False] * (len(found) - 1) + [True]


def test_seams_stand_before_white_space_and_between_characters():
    assert list(sections([b"x" * 1030 + b" " + b"y" * 50])) == [b"x" * 1030, b" " + b"y" * 50]
    for section in sections([("🙂" * 5000).encode()]):
        section.decode("utf-8")


def test_a_lone_text_is_cut_at_a_seam_too(tmp_path: Path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"one two three")
    assert cut_near(file, 13, 4) == 7
    assert cut_near(file, 13, 8) == 8
    assert cut_near(file, 13, 12) == 13
