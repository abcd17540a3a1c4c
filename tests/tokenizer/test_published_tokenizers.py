"""Tokenizers that are there already, in every form: the same ids, and the same hash for our own."""

import base64
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from gptlab.tokenizer import CHAT_FILE, Encoder, Tokenizer, find_chat, open_encoder, open_tokenizer
from gptlab.tokenizer.bpe import BPE, BPEEncoder
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char
from gptlab.tokenizer.pretrained import Pretrained, PretrainedEncoder

TEXT = "the cat sat on the mat, <|endoftext|> that is naïve 東京\r\n  " * 9


@pytest.fixture(scope="module")
def encoder() -> BPEEncoder:
    return BPE(vocab_size=320).train([TEXT])


def assert_same(found: Encoder, encoder: BPEEncoder) -> None:
    assert isinstance(found, PretrainedEncoder)
    assert (found.end_of_text, found.vocab_size) == (encoder.end_of_text, encoder.vocab_size)
    assert found.special == encoder.special
    assert found.encode(TEXT).tolist() == encoder.encode(TEXT).tolist()
    allowed = found.encode(TEXT, allow_special=True).tolist()
    assert allowed == encoder.encode(TEXT, allow_special=True).tolist()
    for id in range(encoder.vocab_size):
        assert found.bytes_of(id) == encoder.bytes_of(id)


@pytest.mark.parametrize(
    "names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")], ids=" ".join
)
def test_gpt2s_two_files(names: tuple[str, str], encoder: BPEEncoder, tmp_path: Path):
    ids = {token: id for id, token in enumerate(encoder.tokens)}
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in encoder.merges), ""]
    (tmp_path / names[0]).write_text(json.dumps(ids))  # as OpenAI's, in ASCII
    (tmp_path / names[1]).write_text("\n".join(lines), encoding="utf-8")
    assert_same(Pretrained(path=str(tmp_path)).train([]), encoder)
    settings, found = open_tokenizer(tmp_path)
    assert settings == Pretrained(path=str(tmp_path))
    assert_same(found, encoder)


def test_a_tiktoken_file(tmp_path: Path):
    encoder = BPE(vocab_size=320, pattern="gpt4").train([TEXT])
    lines = (
        base64.b64encode(encoder.bytes_of(id)) + b" %d\n" % id
        for id in range(encoder.vocab_size - 1)
    )
    file = tmp_path / "cl100k_base.tiktoken"
    file.write_bytes(b"".join(lines))
    for place in (file, tmp_path):
        found = Pretrained(path=str(place)).open()
        assert found.encode(TEXT).tolist() == encoder.encode(TEXT).tolist()
        assert (found.end_of_text, found.vocab_size) == (100257, 100277)
        assert found.special["<|endofprompt|>"] == 100276
        assert found.bytes_of(100270) == b""  # between the special tokens is none
    found = open_encoder(file)
    found.save(tmp_path / "saved")
    again = Pretrained().load(tmp_path / "saved")
    assert again.fingerprint() == found.fingerprint()
    assert again.special == found.special


@pytest.mark.parametrize(
    "settings",
    [BPE(vocab_size=300, special=("[A]",)), Byte(special=("[A]",)), Byte(), Char()],
    ids=str,
)
def test_gptlabs_own_is_itself(settings: Tokenizer, tmp_path: Path):
    encoder = settings.train([TEXT])
    encoder.save(tmp_path / "tok")
    pretrained = Pretrained(path=str(tmp_path / "tok"))
    found = pretrained.train([])
    assert type(found) is type(encoder)
    assert found.fingerprint() == encoder.fingerprint()
    assert pretrained.expected_vocab_size == encoder.vocab_size
    found.save(tmp_path / "run" / "tokenizer")
    assert Pretrained(path=str(tmp_path / "run")).load(tmp_path / "run" / "tokenizer").special == (
        encoder.special
    )


def test_a_chat_template_comes_along(encoder: BPEEncoder, tmp_path: Path):
    chat = find_chat("chatml")
    own = BPE(vocab_size=320, special=chat.special).train([TEXT])
    own.use_chat(chat)
    own.save(tmp_path / "tok")
    assert Pretrained(path=str(tmp_path / "tok")).train([]).chat == chat
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    HuggingFaceTokenizer.from_str(own.to_json()).save(str(theirs / "tokenizer.json"))
    (theirs / CHAT_FILE).write_text(chat.to_json(), encoding="utf-8")
    found = open_encoder(theirs)
    assert isinstance(found, PretrainedEncoder)
    messages = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat"}]
    for ours, same in zip(own.encode_chat(messages), found.encode_chat(messages), strict=True):
        assert ours.tolist() == same.tolist()
    HuggingFaceTokenizer.from_str(encoder.to_json()).save(str(theirs / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"chat.json uses '<\|im_start\|>', which the tokenizer"):
        open_encoder(theirs)


def test_a_damaged_tiktoken_file_is_named(tmp_path: Path):
    (tmp_path / "r50k_base.tiktoken").write_bytes(b"IQ== 0")
    for place in (tmp_path, tmp_path / "r50k_base.tiktoken"):
        with pytest.raises(ValueError, match=r"r50k_base.tiktoken: 255 of the 256 bytes are not"):
            open_encoder(place)


def test_damaged_pairs_are_refused(encoder: BPEEncoder, tmp_path: Path):
    ids = {token: id for id, token in enumerate(encoder.tokens)}
    (tmp_path / "encoder.json").write_text(json.dumps(ids))
    for lines, problem in (("a b c", "line 1"), ("a 東", "damaged"), ("ab", "line 1")):
        (tmp_path / "vocab.bpe").write_text(lines, encoding="utf-8")
        with pytest.raises(ValueError, match=f"{tmp_path}.*{problem}"):
            open_encoder(tmp_path)
    (tmp_path / "vocab.bpe").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=f"{tmp_path}"):
        open_encoder(tmp_path)


def test_a_file_in_place_of_its_folder(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=f"tokenizer.json is .*; give its folder: {tmp_path}"):
        open_encoder(tmp_path / "tokenizer.json")


def test_a_folder_in_place_of_a_file(tmp_path: Path):
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ValueError, match=rf"{tmp_path}/tokenizer.json: .*cannot be read \("):
        open_encoder(tmp_path)
