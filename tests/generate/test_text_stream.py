import random

import pytest

from gptlab.generate.text import TextStream
from gptlab.tokenizer import Encoder
from gptlab.tokenizer.byte import ByteEncoder

END = 256
VARIED = "naïve, 日本語, 🙂👩‍🚀, \u0000, \uffff, ｆｕｌｌ"


def pieces(tokens, stops=(), tokenizer: Encoder | None = None):
    stream = TextStream(tokenizer or ByteEncoder(), stops)
    return [*(stream.push(token) for token in tokens), stream.close()]


class Chunks(ByteEncoder):
    """A tokenizer whose tokens are the given chunks of text."""

    def __init__(self, chunks):
        self.chunks = chunks

    def bytes_of(self, id):
        return self.chunks[id].encode()


def cut(text, generator):
    places = sorted(generator.sample(range(len(text) + 1), k=min(3, len(text))))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def random_bytes(generator) -> list[int]:
    """Bytes of text, cut, repeated and damaged at random places."""
    data = list(VARIED.encode() * 2)
    start = generator.randrange(len(data))
    data = data[start : start + generator.randrange(40)]
    for _ in range(generator.randrange(4)):
        data.insert(generator.randrange(len(data) + 1), generator.randrange(256))
    return data


@pytest.mark.parametrize("stops", [(), ("never in there",), ("語, 🙂?", "\ufffd\ufffd\ufffd!")])
def test_pieces_are_the_decoded_text(stops):
    generator = random.Random(1)
    damaged = 0
    for _ in range(500):
        data = random_bytes(generator)
        text = ByteEncoder().decode(data)
        damaged += "\ufffd" in text
        assert "".join(pieces(data, stops)) == text
    assert 100 < damaged < 480


def test_no_piece_has_half_a_character():
    assert pieces("🙂é".encode()) == ["", "", "", "🙂", "", "é", ""]
    assert not any("\ufffd" in piece for piece in pieces(VARIED.encode()))


def test_a_character_that_stays_incomplete_is_replaced_at_the_end():
    assert pieces("a🙂".encode()[:-1]) == ["a", "", "", "", "\ufffd"]
    assert pieces([*"é".encode()[:1], END, 65]) == ["", "\ufffd", "", ""]


def test_text_comes_as_early_as_it_is_certain():
    assert pieces(b"abEND", ["END!"]) == ["a", "b", "", "", "", "END"]
    assert pieces(b"EENE", ["END"]) == ["", "E", "", "EN", "E"]


def test_a_stop_string_is_never_shown_however_it_is_cut():
    generator = random.Random(2)
    for _ in range(500):
        chunks = cut("JULIET:\nfarewell é END and more END", generator)
        shown = "".join(pieces(range(len(chunks)), ["END"], Chunks(chunks)))
        assert shown == "JULIET:\nfarewell é "


def test_of_several_stop_strings_the_first_to_be_complete_counts():
    generator = random.Random(3)
    stopped = 0
    for _ in range(1_000):
        text = "".join(generator.choices("abc", k=generator.randrange(12)))
        stops = ["".join(generator.choices("abc", k=generator.randint(1, 4))) for _ in range(3)]
        expected = text
        for end in range(len(text) + 1):
            complete = [stop for stop in stops if text[:end].endswith(stop)]
            if complete:
                expected = text[: end - max(map(len, complete))]
                break
        chunks = cut(text, generator)
        assert "".join(pieces(range(len(chunks)), stops, Chunks(chunks))) == expected
        stopped += expected != text
    assert 300 < stopped < 950


def test_done_says_that_the_end_or_a_stop_string_came():
    for tokens, done in ((b"abc", False), (b"abcd", True), ([97, END], True)):
        stream = TextStream(ByteEncoder(), ["bcd"])
        for token in tokens:
            stream.push(token)
        assert stream.done is done
    assert pieces([97, END, 98]) == ["a", "", "", ""]
    assert pieces(b"abcde", ["bcd"]) == ["a", "", "", "", "", ""]
