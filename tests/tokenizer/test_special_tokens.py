"""Special tokens: no text becomes one, unless that is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from gptlab.tokenizer import FILE, Encoder, Tokenizer
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char

TEXT = "the cat sat on the mat, the rat sat on the cat; naïve 東京\n" * 9
SPECIAL = ("<|user|>", "<|user|>s", "[END]")
each_tokenizer = pytest.mark.parametrize(
    "tokenizer",
    [BPE(vocab_size=280, special=SPECIAL), Byte(special=SPECIAL)],
    ids=lambda tokenizer: tokenizer.variant,
)


@each_tokenizer
def test_they_come_after_the_end_of_text_which_stays_what_it_is(tokenizer: Tokenizer):
    encoder = tokenizer.train([TEXT])
    assert encoder.end_of_text is not None
    numbers = range(encoder.end_of_text, encoder.vocab_size)
    assert encoder.special == dict(zip(["<|endoftext|>", *SPECIAL], numbers, strict=True))
    assert encoder.vocab_size == tokenizer.expected_vocab_size
    assert all(encoder.bytes_of(id) == b"" for id in numbers)


@each_tokenizer
def test_their_spelling_is_text_unless_asked(tokenizer: Tokenizer):
    encoder = tokenizer.train([TEXT])
    text = "".join(f"a {spelling}b" for spelling in encoder.special)
    ids = encoder.encode(text).tolist()
    assert not set(encoder.special.values()) & set(ids)
    assert encoder.decode(ids) == text
    asked = encoder.encode(text, allow_special=True).tolist()
    found = [id for id in asked if id in encoder.special.values()]
    assert found == list(encoder.special.values())
    assert encoder.decode(asked) == "a b" * 4


@each_tokenizer
@pytest.mark.parametrize("text", ["", "[END]", "[END][END]", "<|user|>s", "<|user|> s", "x[EN]D]"])
def test_asked_for_at_the_edges(tokenizer: Tokenizer, text: str):
    encoder = tokenizer.train([TEXT])
    ids = encoder.encode(text, allow_special=True)
    assert ids.dtype == np.int64
    spellings = {id: spelling for spelling, id in encoder.special.items()}
    written = b"".join(
        spellings[id].encode() if id in spellings else encoder.bytes_of(id) for id in ids.tolist()
    )
    assert written.decode() == text
    if text == "<|user|>s":
        assert ids.tolist() == [encoder.special[text]]  # the longest spelling that fits


def test_asking_means_what_hugging_face_does(tmp_path: Path):
    encoder = BPE(vocab_size=280, special=("<|im_start|>", "<|im_end|>")).train([TEXT])
    encoder.save(tmp_path)
    theirs = HuggingFaceTokenizer.from_file(str(tmp_path / FILE))
    rng = np.random.default_rng(0)
    pieces = [*encoder.special, " the", "cat", "<|", "|>", "\n", "東", " ", "im_end", "  "]
    for _ in range(300):
        text = "".join(rng.choice(pieces, rng.integers(0, 12)))
        assert encoder.encode(text, allow_special=True).tolist() == theirs.encode(text).ids


@each_tokenizer
def test_they_are_saved_and_loaded(tokenizer: Tokenizer, tmp_path: Path):
    encoder = tokenizer.train([TEXT])
    encoder.save(tmp_path)
    loaded = tokenizer.load(tmp_path)
    assert loaded.special == encoder.special
    assert loaded.fingerprint() == encoder.fingerprint()
    plain = tokenizer.but(special=())
    with pytest.raises(ValueError, match=f"not a {tokenizer.variant} tokenizer: damaged or chan"):
        plain.load(tmp_path)
    assert plain.train([TEXT]).fingerprint() != encoder.fingerprint()


def test_naming_the_end_of_text_or_one_twice_adds_nothing():
    special = ("[A]", "<|endoftext|>", "[A]")
    assert BPE(vocab_size=280, special=special).train([TEXT]).special == {
        "<|endoftext|>": 278,
        "[A]": 279,
    }


def test_without_special_tokens_files_are_what_they_were(tmp_path: Path):
    """Runs of gptlab before there were any have such files, and such settings."""
    Byte().train([]).save(tmp_path)
    assert (tmp_path / FILE).read_text() == '{"type":"byte"}'
    assert Tokenizer.parse({"type": "byte"}).load(tmp_path).vocab_size == 257
    BPE(vocab_size=280).train([TEXT]).save(tmp_path)
    (added,) = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["added_tokens"]
    assert (added["id"], added["content"]) == (279, "<|endoftext|>")
    old = Tokenizer.parse({"type": "bpe", "vocab_size": 280, "pattern": "gpt2"})
    assert old.load(tmp_path).vocab_size == 280


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size=258 is less than the 260 that 256 bytes and"):
        BPE.parse({"vocab_size": 258, "special": SPECIAL})
    with pytest.raises(ValueError, match=r"special.0: String should have at least 1 character"):
        Byte.parse({"special": [""]})
    with pytest.raises(ValueError, match=r"tokenizer.special: 'the' is an ordinary token too"):
        BPE(vocab_size=300, special=("the", "[A]")).train([TEXT])


def test_what_has_none_reads_text_only():
    encoder: Encoder = Char().train(["<|endoftext|> x"])
    ids = encoder.encode("<|endoftext|>", allow_special=True)
    assert encoder.decode(ids.tolist()) == "<|endoftext|>"
    assert len(ids) == 13
