"""Tokenizers from elsewhere give the ids that Hugging Face's own library gives, and their bytes."""

import json
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from tokenizers import Tokenizer as Theirs
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from gptlab.tokenizer import Tokenizer
from gptlab.tokenizer._hugging_face import ALPHABET, byte_level, describe_parts, special_token
from gptlab.tokenizer._round_trip import ORDINARY, PROBE
from gptlab.tokenizer._special import END_OF_TEXT
from gptlab.tokenizer.pretrained import Pretrained, PretrainedEncoder, read_folder

TEXTS = [
    "def f(x):\n\treturn x + 1  # naïve — 東京 🙂\r\n\n",
    "the cat sat on the mat, and that is that",
    " two  spaces <|end|> and  an end ",
    "",
]


def trained(model: Any, alphabet: list[str], special: list[str], **steps: Any) -> Theirs:
    tokenizer = Theirs(model)
    for name, step in steps.items():
        setattr(tokenizer, name, step)
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, "the that at sat mat cat"] * 4, trainer)
    return tokenizer


def gpt2() -> Theirs:
    return trained(
        models.BPE(),
        pre_tokenizers.ByteLevel.alphabet(),
        ["<|end|>"],
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
    )


def llama3() -> Theirs:
    words = pre_tokenizers.Split(r"\p{N}{1,3}|\s*[\r\n]+", "isolated")
    tokenizer = trained(
        models.BPE(ignore_merges=True),
        pre_tokenizers.ByteLevel.alphabet(),
        ["<|start|>", "<|end|>"],
        pre_tokenizer=pre_tokenizers.Sequence(
            [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        ),
        decoder=decoders.ByteLevel(),
    )
    start = processors.TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), start])
    return tokenizer


def of_characters(**steps: Any) -> Theirs:
    special = ["<unk>", "<s>", "<|end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = trained(models.BPE(byte_fallback=True, unk_token="<unk>"), [], special, **steps)
    tree = json.loads(tokenizer.to_str())
    tree["added_tokens"] = tree["added_tokens"][:3]  # the bytes are tokens like others
    rare = {token: id for token, id in tree["model"]["vocab"].items() if "京" in token}
    tree["model"]["vocab"] = {t: i for t, i in tree["model"]["vocab"].items() if t not in rare}
    merges = tree["model"]["merges"]
    tree["model"]["merges"] = [pair for pair in merges if "京" not in "".join(pair)]
    return Theirs.from_str(json.dumps(tree))


def llama2() -> Theirs:
    """A space is put before a text."""
    tokenizer = of_characters(
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def gemma() -> Theirs:
    """No space is put before a text."""
    return of_characters(
        normalizer=normalizers.Replace(" ", "▁"),
        decoder=decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        ),
    )


KINDS = [gpt2, llama3, llama2, gemma]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def theirs(request: pytest.FixtureRequest) -> Theirs:
    return request.param()


@pytest.fixture
def folder(theirs: Theirs, tmp_path: Path) -> Path:
    theirs.save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "<|end|>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_ids_are_theirs(theirs: Theirs, folder: Path):
    theirs.encode_special_tokens = True
    encoder = read_folder(folder)
    for text in TEXTS:
        assert encoder.encode(text).tolist() == theirs.encode(text, add_special_tokens=False).ids
    together = encoder.encode_all(TEXTS)
    assert [ids.tolist() for ids in together] == [encoder.encode(text).tolist() for text in TEXTS]


def test_text_comes_back(folder: Path):
    encoder = read_folder(folder)
    for text in TEXTS:
        assert encoder.decode(encoder.encode(text).tolist()) == text


def test_bytes_are_those_of_the_text(folder: Path):
    encoder = read_folder(folder)
    for text in TEXTS:
        spelled = b"".join(map(encoder.bytes_of, encoder.encode(text).tolist()))
        assert spelled in (text.encode(), b" " + text.encode())


def test_special_tokens_are_of_no_text_and_have_no_bytes(folder: Path):
    encoder = read_folder(folder)
    assert encoder.end_of_text == encoder.special["<|end|>"]
    assert encoder.end_of_text not in encoder.encode("<|end|> <|end|>").tolist()
    assert encoder.bytes_of(encoder.special["<|end|>"]) == b""


def test_what_stands_before_every_text(folder: Path, theirs: Theirs):
    before = theirs.encode("").ids
    assert read_folder(folder).start_of_text == (before[0] if before else None)


def test_saved_and_loaded_is_the_same(folder: Path):
    encoder = read_folder(folder)
    encoder.save(folder / "saved")
    loaded = Pretrained().load(folder / "saved")
    assert isinstance(loaded, PretrainedEncoder)
    assert loaded.fingerprint() == encoder.fingerprint()
    assert (loaded.vocab_size, loaded.end_of_text) == (encoder.vocab_size, encoder.end_of_text)
    assert loaded.encode(TEXTS[0]).tolist() == encoder.encode(TEXTS[0]).tolist()
    trained = Pretrained(path=str(folder)).train(["anything"])
    assert trained.fingerprint() == encoder.fingerprint()


def test_vocab_and_merges_are_a_tokenizer_too(tmp_path: Path):
    theirs = gpt2()
    theirs.model.save(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + (tmp_path / "merges.txt").read_text(encoding="utf-8").split("\n", 1)[1],
        encoding="utf-8",
    )
    encoder = read_folder(tmp_path)
    assert encoder.end_of_text == 0
    theirs.encode_special_tokens = True
    for text in TEXTS:
        assert encoder.encode(text).tolist() == theirs.encode(text).ids
        assert encoder.decode(encoder.encode(text).tolist()) == text


def test_an_end_by_number_alone(folder: Path):
    (folder / "tokenizer_config.json").unlink()
    assert read_folder(folder).end_of_text is None
    encoder = read_folder(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": encoder.special["<|end|>"]})
    )
    assert read_folder(folder).end == "<|end|>"


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("tokenizer.json", "{", "damaged"),
        ("tokenizer.json", "[]", "no object"),
        ("tokenizer.json", "[" * 100_000, "nested too deeply"),
        ("tokenizer.json", '{"version": "1.0"}', "damaged"),
        ("tokenizer_config.json", '{"eos_token": "<|nothing|>"}', "<|nothing|>"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: str, word: str):
    gpt2().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        read_folder(tmp_path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_would_lose_text_is_refused(tmp_path: Path):
    words = Theirs(models.WordLevel({"the": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="WordLevel without bytes"):
        read_folder(tmp_path)


def test_no_tokenizer_and_no_path(tmp_path: Path):
    with pytest.raises(ValueError, match="has no tokenizer: neither"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer\.path=null: name a folder"):
        Tokenizer.parse("pretrained").train(["text"])


def test_the_same_text_always_gives_the_same_ids(tmp_path: Path):
    tree = json.loads(gpt2().to_str())
    tree["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    encoder = read_folder(tmp_path)
    theirs = gpt2().encode(TEXTS[0]).ids
    assert all(encoder.encode(TEXTS[0]).tolist() == theirs for _ in range(5))


def write_plain(
    folder: Path, added: Any = (), eos_token_id: Any = None, without: str = "", **steps: Any
) -> None:
    """Write a tokenizer whose tokens are the 256 bytes, and some added ones."""
    ids = {letter: i for i, letter in enumerate(ALPHABET) if letter not in without}
    tree = describe_parts("gpt2", ids, [], {}) | {"added_tokens": added} | steps
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": eos_token_id}))


def test_an_end_that_the_file_takes_for_ordinary_is_special(tmp_path: Path):
    write_plain(tmp_path, [special_token(END_OF_TEXT, 256) | {"special": False}])
    encoder = read_folder(tmp_path)
    encoder.save(tmp_path / "saved")
    for found in (encoder, Pretrained().load(tmp_path / "saved")):
        assert found.special == {END_OF_TEXT: 256}
        assert found.end_of_text == 256
        assert 256 not in found.encode(f"a{END_OF_TEXT}b").tolist()


@pytest.mark.parametrize(
    ("id", "problem"),
    [
        (66, "its end of text, .*is a token of ordinary text; name a special token"),
        (True, "config.json: eos_token_id=True is not the id of one of its tokens"),
        (-1, "eos_token_id=-1 is not"),
        ([2**40, 256], "eos_token_id=1099511627776 is not"),
    ],
)
def test_an_end_that_is_no_special_token(tmp_path: Path, id: Any, problem: str):
    write_plain(tmp_path, [special_token(END_OF_TEXT, 256)], id)
    with pytest.raises(ValueError, match=problem):
        read_folder(tmp_path)


SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": False}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "'ABC.* as 'abc.*normalizer: Lowercase;"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer: NFKC;"),
        ({"normalizer": {"type": "NFD"}}, "normalizer: NFD;"),
        ({"normalizer": {"type": "Sequence", "normalizers": [STRIP]}}, "normalizer: Strip;"),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, byte_level(False)]}},
            "normalizer: none; pre-tokenizer: Split, ByteLevel;",
        ),
        ({"without": "A"}, "'ABC.* as 'BCD.*256 tokens"),
        ({"without": "\u00f0"}, "comes back as"),
    ],
)
def test_one_that_loses_text_is_refused(tmp_path: Path, changes: dict[str, Any], problem: str):
    write_plain(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"cannot be used: it loses text: .*{problem}"):
        read_folder(tmp_path)


def test_composing_characters_is_allowed(tmp_path: Path):
    write_plain(tmp_path, normalizer={"type": "NFC"})
    encoder = read_folder(tmp_path)
    assert encoder.decode(encoder.encode("cafe\u0301").tolist()) == "caf\u00e9"


def test_a_space_before_every_text_is_allowed(tmp_path: Path):
    write_plain(tmp_path, pre_tokenizer=byte_level(True) | {"add_prefix_space": True})
    encoder = read_folder(tmp_path)
    for text in ("a cat ", "\na"):
        assert encoder.decode(encoder.encode(text).tolist()) == text


def test_the_probe_begins_characters_with_every_byte_that_can():
    begins = {character.encode()[0] for character in PROBE}
    assert begins == {*range(0x80), *range(0xC2, 0xF5)}
    assert normalize("NFC", ORDINARY) == ORDINARY


def test_an_id_that_no_memory_has_room_for(tmp_path: Path):
    write_plain(tmp_path, [special_token("<x>", 300)])
    tree = json.loads((tmp_path / "tokenizer.json").read_text())
    tree["model"]["vocab"]["AB"] = 4_000_000_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(ValueError, match="a token with id 4,000,000,000; at most 10,000,000"):
        read_folder(tmp_path)
