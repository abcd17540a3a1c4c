"""What every tokenizer promises, tried on each file of the folder."""

from pathlib import Path

import numpy as np
import pytest

from gptlab.config import variant_names
from gptlab.tokenizer import FILE, Encoder, Tokenizer

TEXT = (
    "def f(x):\n\treturn x + 1  # naïve — 東京 🙂\r\n\n" * 30 + "<|endoftext|> 12345 \x00\x1c  end"
)


def tokenizers() -> list[Tokenizer]:
    names = [name for name in variant_names(Tokenizer) if name != "pretrained"]  # learns nothing
    return [Tokenizer.parse({"type": name}) for name in names]


@pytest.fixture(params=tokenizers(), ids=lambda tokenizer: tokenizer.variant)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.param


@pytest.fixture
def encoder(tokenizer: Tokenizer) -> Encoder:
    return tokenizer.train([TEXT])


def random_texts(alphabet: str, n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = list(alphabet)
    return ["".join(rng.choice(letters, rng.integers(0, 40))) for _ in range(n)]


def test_text_comes_back(encoder: Encoder):
    texts = [TEXT, "", *random_texts("".join(sorted(set(TEXT))), 200)]
    for text in texts:
        ids = encoder.encode(text)
        assert ids.dtype == np.int64
        assert encoder.decode(ids.tolist()) == text
        assert encoder.decode(list(ids)) == text  # numpy's integers are ids too


def test_any_unicode_comes_back(tokenizer: Tokenizer):
    """All planes, assigned or not, with what is rare in text and common in trouble."""
    rng = np.random.default_rng(5)
    trouble = [0, 9, 10, 13, 0x1C, 0x85, 0xA0, 0x300, 0x200D, 0x202E, 0xFEFF, 0xFFFE, 0xFFFF]
    for _ in range(50):
        codes = np.concatenate([rng.integers(0, 0x110000, 60), rng.choice(trouble, 20)])
        rng.shuffle(codes)
        text = "".join(map(chr, codes[(codes < 0xD800) | (codes > 0xDFFF)].tolist()))
        encoder = tokenizer.train([text])
        assert encoder.decode(encoder.encode(text).tolist()) == text
        if not tokenizer.must_see_all_text:
            stranger = tokenizer.train([TEXT])
            assert stranger.decode(stranger.encode(text).tolist()) == text


def test_ids_are_below_the_vocabulary_size_and_all_of_it_can_be_decoded(encoder: Encoder):
    ids = encoder.encode(TEXT)
    assert ids.min() >= 0
    assert ids.max() < encoder.vocab_size
    for id in range(encoder.vocab_size):
        assert (encoder.bytes_of(id) == b"") == (id in encoder.special.values())
    assert encoder.end_of_text in [None, *encoder.special.values()]


def test_bytes_of_the_tokens_are_the_bytes_of_the_text(encoder: Encoder):
    assert b"".join(map(encoder.bytes_of, encoder.encode(TEXT).tolist())) == TEXT.encode()


def test_no_text_becomes_end_of_text(encoder: Encoder):
    ids = encoder.encode("<|endoftext|>x<|endoftext|>")
    assert encoder.end_of_text not in ids.tolist()
    assert len(ids) > 3


def test_encoding_all_is_encoding_each(encoder: Encoder):
    texts = ["", TEXT, "x", *random_texts("def (x)\n", 300)]
    for text, ids in zip(texts, encoder.encode_all(texts), strict=True):
        np.testing.assert_array_equal(ids, encoder.encode(text))


def test_half_a_character_is_the_users_mistake(encoder: Encoder):
    with pytest.raises(ValueError, match=r"position 1.*surrogates|'\\udcff' at position 1"):
        encoder.encode("x\udcff")


def test_training_again_gives_the_same(tokenizer: Tokenizer, encoder: Encoder):
    again = tokenizer.train([TEXT])
    assert again.fingerprint() == encoder.fingerprint()
    assert again.to_json() == encoder.to_json()


def test_saved_and_loaded_is_the_same(tokenizer: Tokenizer, encoder: Encoder, tmp_path: Path):
    encoder.save(tmp_path / "new" / "folder")
    encoder.save(tmp_path / "new" / "folder")  # over itself
    loaded = tokenizer.load(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == [FILE]
    assert loaded.fingerprint() == encoder.fingerprint()
    assert (loaded.vocab_size, loaded.end_of_text) == (encoder.vocab_size, encoder.end_of_text)
    np.testing.assert_array_equal(loaded.encode(TEXT), encoder.encode(TEXT))


def test_a_save_that_fails_leaves_the_old_file(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoder.save(tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        encoder.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before


def test_expected_vocabulary_size():
    expected = {tokenizer.variant: tokenizer.expected_vocab_size for tokenizer in tokenizers()}
    assert expected == {"char": 65, "byte": 257, "bpe": 8192}
