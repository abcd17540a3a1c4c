import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from gptlab.tokenizer import FILE, _sections, bpe
from gptlab.tokenizer._special import END_OF_TEXT
from gptlab.tokenizer.bpe import BPE

TEXT = Path(bpe.__file__).read_text(encoding="utf-8")
patterns = pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "gpt4o"])


def random_unicode(n: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    letters = [*"  \n\t\r'sdABCab01234,.-é東🙂\u00a0\u3000\x1c", "\r\n", "<|endoftext|>", "don't"]
    return "".join(rng.choice(letters, n))


@patterns
def test_vocabulary_has_the_size_asked_for_and_the_end_is_last(pattern: str):
    encoder = BPE.parse({"vocab_size": 400, "pattern": pattern}).train([TEXT])
    assert encoder.vocab_size == 400
    assert encoder.end_of_text == 399
    assert len(encoder.merges) == 400 - 257
    assert len(set(encoder.tokens)) == 400


def test_frequent_pairs_merge_first():
    encoder = BPE(vocab_size=259).train(["ab" * 5 + " cd" * 9 + " xy" * 4])
    assert [a + b for a, b in encoder.merges] == ["cd", "Ġcd"]


def test_short_text_gives_a_smaller_vocabulary():
    encoder = BPE(vocab_size=5000).train(["ab ab"])
    assert 257 < encoder.vocab_size < 265
    nothing = BPE(vocab_size=5000).train(["", "q"])
    assert (nothing.vocab_size, nothing.end_of_text) == (257, 256)


@patterns
def test_compresses_and_comes_back(pattern: str):
    encoder = BPE.parse({"vocab_size": 1000, "pattern": pattern}).train([TEXT])
    ids = encoder.encode(TEXT)
    assert len(ids) < len(TEXT.encode()) / 2.5
    assert encoder.decode(ids.tolist()) == TEXT
    for seed in range(100):
        text = random_unicode(50, seed)
        assert encoder.decode(encoder.encode(text).tolist()) == text


def test_patterns_differ_where_they_say():
    text = "abc 1234567 123456 1234567 x\n\n\n" * 20
    gpt2 = BPE(vocab_size=300, pattern="gpt2").train([text])
    gpt4 = BPE(vocab_size=300, pattern="gpt4").train([text])
    assert "Ġ1234567" in gpt2.tokens
    assert max(sum(c.isdigit() for c in token) for token in gpt4.tokens) == 3


@patterns
def test_pieces_do_not_change_the_tokens(pattern: str, monkeypatch: pytest.MonkeyPatch):
    encoder = BPE.parse({"vocab_size": 600, "pattern": pattern}).train([TEXT])
    texts = [TEXT, *(random_unicode(500, seed) for seed in range(50))]
    whole = [encoder.encode(text) for text in texts]
    monkeypatch.setattr(_sections, "SECTION", 3)
    monkeypatch.setattr(bpe, "AT_ONCE", 50)
    assert len(list(_sections.sections(TEXT))) > 300
    for ids, expected in zip(encoder.encode_all(texts), whole, strict=True):
        np.testing.assert_array_equal(ids, expected)


def test_long_words_are_cut_for_training_only():
    dna = "".join(np.random.default_rng(0).choice(list("ACGT"), 20_000))
    pieces = list(_sections.short_words("some words " * 50 + dna))
    assert "".join(pieces) == "some words " * 50 + dna
    assert len(pieces) > 20_000 // 256
    assert all(len(piece) == 256 for piece in pieces[1:-1])
    encoder = BPE(vocab_size=500).train([dna])
    assert encoder.decode(encoder.encode(dna).tolist()) == dna


@patterns
def test_the_file_is_hugging_faces(pattern: str, tmp_path: Path):
    encoder = BPE.parse({"vocab_size": 600, "pattern": pattern}).train([TEXT])
    encoder.save(tmp_path)
    theirs = HuggingFaceTokenizer.from_file(str(tmp_path / FILE))
    assert theirs.get_vocab_size() == encoder.vocab_size
    assert theirs.encode(f"a{END_OF_TEXT}").ids[-1] == encoder.end_of_text  # theirs does parse it
    for text in [TEXT, *(random_unicode(60, seed) for seed in range(50))]:
        text = text.replace(END_OF_TEXT, "")
        assert theirs.encode(text).ids == encoder.encode(text).tolist()
        assert theirs.decode(theirs.encode(text).ids) == text


def test_text_that_spells_the_end_is_text():
    encoder = BPE(vocab_size=500).train([f"a{END_OF_TEXT}b " * 100])
    ids = encoder.encode(f"a{END_OF_TEXT}b")
    assert encoder.end_of_text not in ids
    assert encoder.decode(ids.tolist()) == f"a{END_OF_TEXT}b"
    assert encoder.decode([*ids.tolist(), encoder.vocab_size - 1]) == f"a{END_OF_TEXT}b"


@pytest.mark.parametrize("threads", ["1", "4"])
def test_another_process_learns_the_same(threads: str):
    code = (
        "from pathlib import Path; from gptlab.tokenizer import bpe;"
        "text = Path(bpe.__file__).read_text(encoding='utf-8');"
        "print(bpe.BPE(vocab_size=700).train([text, text[:999]]).fingerprint())"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    here = BPE(vocab_size=700).train([TEXT, TEXT[:999]]).fingerprint()
    assert there.stdout.strip() == here


def test_fingerprint_is_known():
    """A change here makes every tokenizer trained so far look like another one."""
    assert BPE(vocab_size=262).train(["low lower lowest " * 9]).fingerprint() == (
        "e64afe31af2cb61c9eb1f0d20b82e14bf5c907844802e0eff053c2d588fad55b"
    )


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(
        ValueError, match="vocab_size: Input should be greater than or equal to 257"
    ):
        BPE.parse({"vocab_size": 256})
