"""A tokenizer is found wherever it is, and known for what it is."""

import json
from pathlib import Path

import pytest

from gptlab.tokenizer import FILE, Tokenizer, open_encoder, open_tokenizer
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char

TEXT = "the cat sat on the mat, the rat sat on the cat; naïve 東京\n" * 4
TOKENIZERS = [
    Char(),
    Byte(),
    Byte(special=("[A]", "[B]")),
    BPE(vocab_size=270),
    BPE(vocab_size=270, pattern="gpt4"),
    BPE(vocab_size=270, pattern="gpt4", special=("[A]", "[B]")),
]


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=str)
def test_in_its_folder_and_in_a_runs(tokenizer: Tokenizer, tmp_path: Path):
    encoder = tokenizer.train([TEXT])
    encoder.save(tmp_path / "tok")
    encoder.save(tmp_path / "run" / "tokenizer")
    for place in (tmp_path / "tok", str(tmp_path / "run")):
        settings, found = open_tokenizer(place)
        assert settings.variant == tokenizer.variant
        assert settings.load(tmp_path / "tok").fingerprint() == encoder.fingerprint()
        assert settings.variant == "char" or settings.expected_vocab_size == encoder.vocab_size
        assert type(found) is type(encoder)
        assert found.fingerprint() == encoder.fingerprint()
        assert found.special == encoder.special


def test_byte_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert open_encoder("byte").fingerprint() == Byte().train([]).fingerprint()
    monkeypatch.chdir(tmp_path)
    Char().train([TEXT]).save(tmp_path / "byte")
    assert open_encoder("byte").end_of_text is None  # the folder of that name


def test_nothing_there(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no tokenizer: neither tokenizer.json, nor"):
        open_encoder(tmp_path)
    for place in (tmp_path / "nowhere", "bpe"):
        with pytest.raises(ValueError, match=rf"{place}: no such file or folder"):
            open_encoder(place)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"type":"bype"}',
        b'{"type":3}',
        b'{"type":"char","characters":"ba"}',
        b'{"type":"byte","special":[3]}',
        b'{"added_tokens":[3,4],"pre_tokenizer":{}}',
        b'{"added_tokens":[{"content":3}],"pre_tokenizer":{}}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:30].decode(),
)
def test_what_is_none_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        open_encoder(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_changed_one_is_not_the_same(tmp_path: Path):
    """It may still be a tokenizer of Hugging Face's: its fingerprint tells."""
    encoder = BPE(vocab_size=270).train([TEXT])
    encoder.save(tmp_path)
    tree = encoder.tree()
    for change in ({"added_tokens": []}, {"normalizer": {"type": "NFC"}}):
        (tmp_path / FILE).write_text(json.dumps(tree | change), encoding="utf-8")
        settings, found = open_tokenizer(tmp_path)
        assert settings.variant == "pretrained"
        assert found.fingerprint() != encoder.fingerprint()
    for added in ([7], [{"content": None}]):
        (tmp_path / FILE).write_text(json.dumps(tree | {"added_tokens": added}), encoding="utf-8")
        with pytest.raises(ValueError, match="its tokenizer cannot be used: damaged"):
            open_encoder(tmp_path)
