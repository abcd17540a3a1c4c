"""Long texts are encoded in sections, and nobody can tell."""

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from gptlab.tokenizer import _sections
from gptlab.tokenizer._sections import LONG_RUN, LONGEST, SECTION, sections, short_words
from gptlab.tokenizer.bpe import BPE

LETTERS = [
    *"  \n\t\r'sdABz01_(){}.,-é東。🙂\u00a0\u3000\x1c\x85\u0301",
    "\r\n",
    "don't",
    "x,y",
    "a\n",
]


def random_text(n: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(LETTERS, n))


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "gpt4o"])
def test_seams_part_no_word(pattern: str, monkeypatch: pytest.MonkeyPatch):
    """Every seam of random texts, against the library's tokens of the whole."""
    monkeypatch.setattr(_sections, "SECTION", 1)
    training = [random_text(3000, seed) for seed in range(20)]
    encoder = BPE.parse({"vocab_size": 700, "pattern": pattern}).train(training)
    theirs = HuggingFaceTokenizer.from_str(encoder.to_json())
    n_sections = 0
    for seed in range(1000, 1400):
        text = random_text(60, seed)
        parts = list(sections(text))
        assert "".join(parts) == text
        n_sections += len(parts)
        ids = [id for part in parts for id in theirs.encode(part).ids]
        assert ids == theirs.encode(text).ids
        assert encoder.encode(text).tolist() == ids
    assert n_sections > 400 * 5


@pytest.mark.parametrize("letters", ["a", " ", "東", "🙂", "a ", "\n", "é ", "x.y"])
def test_no_section_is_long_and_all_text_is_in_one(letters: str):
    text = letters * (3 * LONGEST // len(letters) + 5)
    lengths = [len(section) for section in sections(text)]
    assert sum(lengths) == len(text)
    assert max(lengths) <= LONGEST
    assert min(lengths[:-1]) >= SECTION
    assert "".join(sections(text)) == text


def test_a_document_without_a_seam_comes_back():
    encoder = BPE(vocab_size=300).train(["ab" * 100])
    for text in ("ab" * LONGEST, "東" * LONGEST, " " * LONGEST):
        ids = encoder.encode(text)
        assert encoder.decode(ids.tolist()) == text
    assert len(encoder.encode("ab" * LONGEST)) < LONGEST / 20


def test_the_quick_look_for_long_runs_misses_none():
    rng = np.random.default_rng(0)
    pieces = ["a", " ", "b" * 300, "c" * 255, " " * 300, " " * 128, "q" * 128, "\x1c", "\u3000"]
    found = 0
    for _ in range(400):
        text = "".join(rng.choice(pieces, rng.integers(0, 12)))
        runs = LONG_RUN.search(text)
        found += runs is not None
        assert _sections._may_have_a_long_run(text) or not runs
        assert "".join(short_words(text)) == text
        assert all(LONG_RUN.search(part[:-1]) is None for part in short_words(text))
    assert 100 < found < 400
