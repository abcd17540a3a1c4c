"""tokenizer.json from elsewhere: damaged, forged, or another tokenizer's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptlab import tokenizer as tokenizer_module
from gptlab.tokenizer import FILE, Tokenizer, _hugging_face
from gptlab.tokenizer._hugging_face import Merge
from gptlab.tokenizer.bpe import BPE
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import Char

TEXT = "the cat sat on the mat, the rat sat on the cat; naïve 東京\n" * 4
TOKENIZERS = [Char(), Byte(), BPE(vocab_size=300)]
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda t: t.variant)


def assert_refused(tokenizer: Tokenizer, folder: Path, match: str = "tokenizer.json: ") -> None:
    with pytest.raises(ValueError, match=match) as caught:
        tokenizer.load(folder)
    assert str(caught.value).startswith(f"{folder / FILE}: ")
    assert "\n" not in str(caught.value)


@each_tokenizer
def test_a_flipped_bit_is_refused_or_changes_the_fingerprint(tokenizer: Tokenizer, tmp_path: Path):
    encoder = tokenizer.train([TEXT])
    encoder.save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for bit in rng.choice(8 * len(content), min(200, 8 * len(content)), replace=False):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        (tmp_path / FILE).write_bytes(damaged)
        try:
            loaded = tokenizer.load(tmp_path)
        except ValueError:
            refused += 1
        else:
            assert loaded.fingerprint() != encoder.fingerprint()
    assert refused >= 100


@each_tokenizer
def test_a_file_cut_short_is_refused(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.train([TEXT]).save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    for length in [0, 1, len(content) // 2, len(content) - 1]:
        (tmp_path / FILE).write_bytes(content[:length])
        assert_refused(tokenizer, tmp_path)


@each_tokenizer
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"\x80\x04\x95pickle",
        b"null",
        b"[]",
        b"3",
        b'"char"',
        b"{}",
        b'{"type":"other"}',
        b'{"type":["char"],"characters":"ab"}',
        b'{"type":"char","characters":["a","b"]}',
        b'{"type":"char","characters":"ba"}',
        b'{"type":"char","characters":"aa"}',
        b'{"type":"char","characters":"\\ud800"}',
        b'{"type":"char","characters":"ab","more":1}',
        b'{"type":"byte","type":"byte"}',
        b'{"type":"byte"} ',
        b'{"model":3}',
        b'{"model":{"merges":[]}}',
        b'{"model":{"merges":[["a","b"],["a","b"]]}}',
        b'{"model":{"merges":[["abc","d"]]}}',
        b'{"model":{"merges":[["a","b","c"]]}}',
        b'{"model":{"merges":["a b"]}}',
        b'{"model":{"merges":[[1,2]]}}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
    ids=lambda content: content[:40].decode("latin1"),
)
def test_a_file_that_save_did_not_write_is_refused(
    tokenizer: Tokenizer, content: bytes, tmp_path: Path
):
    (tmp_path / FILE).write_bytes(content)
    assert_refused(tokenizer, tmp_path)


def test_another_tokenizers_file_is_refused(tmp_path: Path):
    for writer in [*TOKENIZERS, BPE(vocab_size=300, pattern="gpt4")]:
        writer.train([TEXT]).save(tmp_path)
        for reader in TOKENIZERS:
            if reader != writer:
                assert_refused(reader, tmp_path, f"not a {reader.variant} tokenizer")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["pre_tokenizer", "use_regex"], False),
        (["normalizer"], {"type": "Lowercase"}),
        (["post_processor"], {"type": "ByteLevel"}),
        (["added_tokens", 0, "id"], 5),
        (["added_tokens", 0, "content"], "the"),
        (["model", "vocab", "a"], 5),
        (["model", "vocab", "zzz"], 1000),
        (["model", "dropout"], 0.5),
        (["model", "merges", 0], ["q", "q"]),
    ],
)
def test_a_forged_bpe_file_is_refused(path: list[Any], value: Any, tmp_path: Path):
    tokenizer = BPE(vocab_size=300)
    tree = tokenizer.train([TEXT]).tree()
    node: Any = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    (tmp_path / FILE).write_text(text, encoding="utf-8", newline="")
    assert_refused(tokenizer, tmp_path)


@pytest.mark.parametrize("merges", [[("a", "b")] * 2, [("a", "bc")], [("a", "")], [("é", "東")]])
def test_merges_that_training_cannot_make_are_refused(merges: list[Merge], tmp_path: Path):
    tokenizer = BPE(vocab_size=300)
    tokenizer.train([TEXT]).save(tmp_path)
    tree = _hugging_face.describe("gpt2", merges, ())  # consistent otherwise
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    (tmp_path / FILE).write_text(text, encoding="utf-8", newline="")
    assert_refused(tokenizer, tmp_path, "makes no new token of two known ones")


@each_tokenizer
def test_a_missing_file_and_a_huge_one_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert_refused(tokenizer, tmp_path, "cannot be read")
    tokenizer.train([TEXT]).save(tmp_path)
    size = (tmp_path / FILE).stat().st_size
    monkeypatch.setattr(tokenizer_module, "MAX_FILE_BYTES", size - 1)
    assert_refused(tokenizer, tmp_path, "larger than")
