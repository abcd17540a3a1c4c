import math
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from gptlab.data.corpus import check_lengths, in_fixed_order, prepare, split, tokenize
from gptlab.data.sources._texts import Texts
from gptlab.data.sources.shakespeare import SHA256, Shakespeare
from gptlab.data.sources.text import Text
from gptlab.tokenizer import Tokenizer
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char

DOCUMENTS = [f"document {i}: naïve 東京 {'word ' * i}\n" for i in range(30)]
TINY_SHAKESPEARE = Path(__file__).parents[2] / "../shared/data/tinyshakespeare.txt"


class Given(Texts):
    """Text from memory."""

    def documents(self) -> list[str]:
        return list(DOCUMENTS)


@pytest.fixture(params=[Char(), Byte(), BPE(vocab_size=350)], ids=lambda t: t.variant)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.param


@pytest.mark.skipif(not TINY_SHAKESPEARE.exists(), reason=f"{TINY_SHAKESPEARE} is not there")
class TestTinyShakespeare:
    def test_is_the_text_that_is_fetched(self):
        assert sha256(TINY_SHAKESPEARE.read_bytes()).hexdigest() == SHA256

    def test_sizes(self):
        data = Text(path=str(TINY_SHAKESPEARE))
        encoder, corpus = prepare(data, Char())
        assert encoder.vocab_size == Char().expected_vocab_size == 65
        assert (len(corpus.texts[0].tokens), len(corpus.val)) == (1_003_854, 111_540)
        assert corpus.texts[0].tokens.dtype == corpus.val.dtype == np.uint16
        assert corpus.val_bytes == 111_539
        assert corpus.n_bytes == 1_115_394
        text = data.documents()[0]
        assert (
            encoder.decode(corpus.texts[0].tokens[:].tolist())
            + encoder.decode(corpus.val[:].tolist())
            == text
        )

    def test_same_text_from_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "tinyshakespeare.txt").write_bytes(TINY_SHAKESPEARE.read_bytes())
        monkeypatch.setenv("GPTLAB_CACHE", str(tmp_path))
        assert Shakespeare().documents() == Text(path=str(TINY_SHAKESPEARE)).documents()


def test_order_is_that_of_the_contents_sha256():
    ordered = in_fixed_order(DOCUMENTS)
    digests = [sha256(document.encode()).hexdigest() for document in ordered]
    assert digests == sorted(digests)
    assert sorted(ordered) == sorted(DOCUMENTS)
    assert in_fixed_order(DOCUMENTS[::-1]) == ordered


@pytest.mark.parametrize("val_fraction", [0.01, 0.1, 1 / 3, 0.5, 0.999])
def test_split_keeps_all_characters_in_order(val_fraction: float):
    train, val = split(DOCUMENTS, val_fraction)
    text = "".join(DOCUMENTS)
    assert "".join(train) + "".join(val) == text
    assert len("".join(train)) == int(len(text) * (1 - val_fraction))
    assert all(train + val)
    assert len(train) + len(val) - len(DOCUMENTS) in (0, 1)  # at most one is cut in two


def test_split_between_two_documents_cuts_none():
    assert split(["abc", "def"], 0.5) == (["abc"], ["def"])
    assert split(["abc", "def"], 0.25) == (["abc", "d"], ["ef"])
    assert split(["a"], 0.5) == ([], ["a"])
    assert split(["ab"], 1e-20) == (["ab"], [])


def test_documents_are_joined_and_come_back(tokenizer: Tokenizer):
    encoder, corpus = prepare(Given(val_fraction=0.3), tokenizer)
    train, val = split(in_fixed_order(DOCUMENTS), 0.3)
    for ids, documents in [
        (corpus.texts[0].tokens[:].tolist(), train),
        (corpus.val[:].tolist(), val),
    ]:
        if encoder.end_of_text is None:
            assert encoder.decode(ids) == "\n\n".join(documents)
            continue
        assert ids.count(encoder.end_of_text) == len(documents) - 1
        texts: list[list[int]] = [[]]
        for id in ids:
            if id == encoder.end_of_text:
                texts.append([])
            else:
                texts[-1].append(id)
        assert [encoder.decode(text) for text in texts] == documents


def test_given_order_does_not_matter(tokenizer: Tokenizer):
    encoder = tokenizer.train([*DOCUMENTS, "\n"])
    corpus = tokenize(DOCUMENTS, encoder, 0.2)
    again = tokenize(DOCUMENTS[::-1], encoder, 0.2)
    np.testing.assert_array_equal(corpus.texts[0].tokens, again.texts[0].tokens)
    np.testing.assert_array_equal(corpus.val, again.val)
    assert corpus.fingerprint == again.fingerprint


def test_preparing_is_tokenizing_with_the_same_split(tokenizer: Tokenizer):
    data = Given(val_fraction=0.2)
    encoder, corpus = prepare(data, tokenizer)
    assert tokenize(data.documents(), encoder, 0.2).fingerprint == corpus.fingerprint


def test_bpe_learns_from_training_text_only_and_char_from_all():
    train, val = split(in_fixed_order(DOCUMENTS), 0.4)
    encoder, _ = prepare(Given(val_fraction=0.4), BPE(vocab_size=350))
    assert encoder.fingerprint() == BPE(vocab_size=350).train(train).fingerprint()
    assert encoder.fingerprint() != BPE(vocab_size=350).train(train + val).fingerprint()
    alphabet, _ = prepare(Given(val_fraction=0.4), Char())
    assert alphabet.fingerprint() == Char().train(DOCUMENTS).fingerprint()


@pytest.mark.parametrize(
    ("documents", "characters"), [(["abc"], "abc"), (["abc", "abd"], "\nabcd")], ids=["one", "two"]
)
def test_char_knows_what_joins_documents(
    documents: list[str], characters: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Given, "documents", lambda self: documents)
    encoder, _ = prepare(Given(), Char())
    assert encoder.tree()["characters"] == characters


def test_val_bytes_are_those_of_the_predicted_text(tokenizer: Tokenizer):
    encoder, corpus = prepare(Given(val_fraction=0.3), tokenizer)
    _, val = split(in_fixed_order(DOCUMENTS), 0.3)
    first = encoder.bytes_of(int(corpus.val[:1][0]))
    assert val[0].encode().startswith(first)
    assert corpus.val_bytes == len("".join(val).encode()) - len(first)
    assert corpus.n_bytes == len("".join(DOCUMENTS).encode())


def test_bits_per_byte_of_uniform_guesses():
    """A model that knows nothing needs log2(257) bits for each byte of a lone document."""
    corpus = tokenize(["some text, naïve"], Byte().train([]), 0.5)
    nats = math.log(257)
    bits_per_byte = nats * (len(corpus.val) - 1) / corpus.val_bytes / math.log(2)
    assert bits_per_byte == pytest.approx(math.log2(257))


def test_large_vocabularies_take_32_bits():
    corpus = tokenize(["ab" * 100], Char().train(["ab"]), 0.5)
    assert corpus.texts[0].tokens.dtype == np.uint16
    encoder = Char().train(["".join(map(chr, range(0x10000, 0x10000 + 2**16 + 1)))])
    corpus = tokenize([chr(0x10000 + 2**16) * 10], encoder, 0.5)
    assert corpus.texts[0].tokens.dtype == corpus.val.dtype == np.uint32
    assert corpus.texts[0].tokens[:].tolist() == [2**16] * 5
    encoder = Char().train(["".join(map(chr, range(0x10000, 0x10000 + 2**16)))])
    corpus = tokenize([chr(0x10000 + 2**16 - 1) * 10], encoder, 0.5)
    assert corpus.texts[0].tokens.dtype == np.uint16
    assert corpus.texts[0].tokens[:].tolist() == [2**16 - 1] * 5


def test_fingerprint_tells_texts_and_splits_apart():
    encoder = Byte().train([])
    text = "the quick brown fox jumps over the lazy dog"
    corpora = [
        tokenize([text], encoder, 0.5),
        tokenize([text], encoder, 0.4),
        tokenize([text.replace("dog", "cat")], encoder, 0.5),
        tokenize([text[:20], text[20:]], encoder, 0.5),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)


def test_fingerprint_is_known():
    """A change here makes every resumed run believe that its data changed."""
    corpus = tokenize(["naïve", "two"], Byte().train([]), 0.4)
    assert corpus.fingerprint == (
        "d5ef6f61b104b3116e9bdfa6ff0e57ccc65839a8beea64b21440b636f2c0bcd8"
    )


def test_another_process_makes_the_same_corpus(tmp_path: Path):
    for i, document in enumerate(DOCUMENTS):
        (tmp_path / f"{i}.txt").write_bytes(document.encode())
    code = (
        "import sys; from gptlab.data.corpus import prepare;"
        "from gptlab.data.sources.text import Text; from gptlab.tokenizer.bpe import BPE;"
        "print(prepare(Text(path=sys.argv[1]), BPE(vocab_size=300))[1].fingerprint)"
    )
    there = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    here = prepare(Text(path=str(tmp_path)), BPE(vocab_size=300))[1].fingerprint
    assert there.stdout.strip() == here


@pytest.mark.parametrize(
    ("text", "val_fraction", "problem"),
    [
        ("x" * 72, 0.1, "64 training tokens, 65 are needed"),
        ("x" * 100, 0.01, "1 validation tokens, 2 are needed"),
        ("x", 0.1, "0 training tokens, 65 are needed"),
        ("x" * 100, 1e-20, "0 validation tokens, 2 are needed"),
    ],
)
def test_too_short_a_text_is_refused(text: str, val_fraction: float, problem: str):
    data = Text(path="short.txt", val_fraction=val_fraction)
    corpus = tokenize([text], Byte().train([]), val_fraction)
    with pytest.raises(ValueError, match="too short") as caught:
        check_lengths(corpus, data, context_length=64)
    message = str(caught.value)
    assert message.startswith(f"data.path=short.txt: too short: {problem} (")
    assert f"model.context_length=64, data.val_fraction={val_fraction}" in message
    assert "\n" not in message


def test_a_text_just_long_enough_is_accepted():
    data = Text(path="a.txt", val_fraction=2 / 67)
    corpus = tokenize(["x" * 67], Byte().train([]), data.val_fraction)
    assert (len(corpus.texts[0].tokens), len(corpus.val)) == (65, 2)
    check_lengths(corpus, data, context_length=64)
