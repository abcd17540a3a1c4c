import numpy as np
import pytest

from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char


def test_char_ids_are_places_among_the_sorted_characters():
    encoder = Char().train(["cab", "🙂é"])
    assert encoder.characters == "abcé🙂"
    assert encoder.vocab_size == 5
    assert encoder.end_of_text is None
    assert encoder.encode("🙂abcé").tolist() == [4, 0, 1, 2, 3]


@pytest.mark.parametrize("stranger", ["b", "~", "🙃", "\0", "\U0010ffff", "\ud800"])
def test_char_names_the_character_it_has_never_seen(stranger: str):
    encoder = Char().train(["ac🙂"])
    with pytest.raises(ValueError, match="never seen it") as caught:
        encoder.encode("a🙂" * 600 + stranger + stranger)
    assert f"character {stranger!r} at position 1,200" in str(caught.value)


def test_bytes_are_their_own_ids():
    encoder = Byte().train([])
    assert (encoder.vocab_size, encoder.end_of_text) == (257, 256)
    assert encoder.encode("é\n").tolist() == [0xC3, 0xA9, 10]


def test_any_ids_decode():
    encoder = Byte().train([])
    rng = np.random.default_rng(0)
    for _ in range(200):
        ids = rng.integers(0, 257, 30)
        expected = bytes(ids[ids < 256].tolist()).decode("utf-8", errors="replace")
        assert encoder.decode(ids.tolist()) == expected


def test_random_unicode_comes_back():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 0x110000, 20_000)
    text = "".join(map(chr, codes[(codes < 0xD800) | (codes > 0xDFFF)].tolist()))
    for tokenizer in (Byte(), Char()):
        encoder = tokenizer.train([text])
        assert encoder.decode(encoder.encode(text).tolist()) == text
