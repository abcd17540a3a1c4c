"""Opening a prepared set: whatever is not as it was written is said in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptlab.data.preparation.options import Options
from gptlab.data.preparation.run import prepare
from gptlab.data.prepared import MANIFEST, PreparedSet, is_prepared
from gptlab.data.shards import Shards
from gptlab.tokenizer.byte import Byte


class Silent:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    lines = [json.dumps({"text": f"document {i} " * 20}) for i in range(60)]
    (folder / "a.jsonl").write_text("\n".join(lines), "utf-8")
    options = Options(
        source=str(folder / "a.jsonl"),
        tokenizer="byte",
        out=folder / "made",
        val_fraction=0.3,
        shard_size=3000,
        workers=1,
    )
    listener: Any = Silent()
    return prepare(options, listener).path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def assert_refused(folder: Path, *fragments: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        PreparedSet.open(folder)
    message = str(caught.value)
    assert "\n" not in message
    for fragment in (str(folder), *fragments):
        assert fragment in message


def test_it_can_be_moved_and_opened(folder: Path, made: Path):
    here, there = PreparedSet.open(folder), PreparedSet.open(made)
    assert here.fingerprint == there.fingerprint
    assert len(here.manifest.train.shards) > 2
    assert here.encoder.fingerprint() == Byte().train([]).fingerprint()
    here.verify()
    assert is_prepared(folder)
    assert not is_prepared(folder.parent)
    (folder / ".DS_Store").write_bytes(b"")
    PreparedSet.open(folder)


def test_shards_are_mapped_not_read(folder: Path):
    tokens = PreparedSet.open(folder).tokens("train")
    assert isinstance(tokens, Shards)
    assert all(isinstance(array, np.memmap) for array in tokens.arrays)


@pytest.mark.parametrize("name", ["train-00001.bin", "val-00000.documents"])
@pytest.mark.parametrize("change", [-1, -2, 2])
def test_a_shard_of_another_size(name: str, change: int, folder: Path):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:change] if change < 0 else content + b"\0" * change)
    assert_refused(folder, name, f"{len(content) + change:,} bytes", f"{len(content):,}")


def test_missing_and_extra_shards(folder: Path):
    (folder / "train-00001.bin").unlink()
    assert_refused(folder, "train-00001.bin is missing")
    (folder / "train-00077.bin").write_bytes(b"")
    assert_refused(folder, "train-00001.bin is missing", "train-00077.bin is not in manifest.json")


def test_no_manifest_is_no_set(folder: Path):
    (folder / MANIFEST).unlink()
    assert_refused(folder, "manifest.json is missing: it was never finished")


def test_another_tokenizer(folder: Path):
    from gptlab.tokenizer.char import Char

    Char().train(["abc"]).save(folder / "tokenizer")
    assert_refused(folder, "differ: it was prepared with the tokenizer")
    shutil.rmtree(folder / "tokenizer")
    assert_refused(folder, "tokenizer is missing")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"format": 1', b'"format": 2'),
        (b'"vocab_size": 257', b'"vocab_size": 256'),
        (b'"text_bytes": ', b'"text_bytes": 1'),
        (b'"name": "val-00000"', b'"name": "../val-0000"'),
        (b"{", b"{\n"),
        (b"}", b""),
    ],
)
def test_a_manifest_that_was_changed(before: bytes, after: bytes, folder: Path):
    content = (folder / MANIFEST).read_bytes()
    assert before in content
    (folder / MANIFEST).write_bytes(content.replace(before, after, 1))
    assert_refused(folder, "manifest.json")


def rewrite(folder: Path, **changes: object) -> None:
    manifest = PreparedSet.open(folder).manifest
    (folder / MANIFEST).write_bytes(manifest.model_copy(update=changes).write())


def test_a_manifest_written_by_somebody_else(folder: Path):
    rewrite(folder, vocab_size=300)
    assert_refused(folder, "manifest.json says 300 ids, its tokenizer has 257")


@pytest.mark.parametrize("size", [2999, 3001])
def test_shards_that_are_not_full(size: int, folder: Path):
    rewrite(folder, shard_size=size)
    assert_refused(folder, "train-00000 has 3,000 tokens, a full one has")


def test_any_flipped_bit_of_the_manifest_is_noticed(folder: Path):
    content = (folder / MANIFEST).read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        (folder / MANIFEST).write_bytes(changed)
        assert_refused(folder)


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00002.documents", "val-00001.bin"])
def test_a_flipped_bit_is_found_on_request(name: str, folder: Path):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / name).write_bytes(content)
    opened = PreparedSet.open(folder)
    with pytest.raises(ValueError, match=f"sha256 differs.: {name}$"):
        opened.verify()


def test_shards_are_one_array():
    whole = np.arange(1000, dtype=np.uint16) * 3
    draw = np.random.default_rng(0)
    for each in (1, 7, 333, 999, 1000, 2000):
        shards = Shards([whole[i : i + each] for i in range(0, 1000, each)])
        assert (len(shards), shards.dtype, shards.shape, shards.ndim) == (
            1000,
            np.uint16,
            (1000,),
            1,
        )
        places = draw.integers(0, 1000, (5, 9))
        np.testing.assert_array_equal(shards[places], whole[places])
        for start, stop in [
            (0, 1000),
            (0, 0),
            (5, 5),
            (6, 8),
            (332, 335),
            (990, 5000),
            (999, 1000),
        ]:
            np.testing.assert_array_equal(shards[start:stop], whole[start:stop])
        np.testing.assert_array_equal(shards[-5:], whole[-5:])
        assert shards[np.array([], np.int64)].dtype == np.uint16
        for outside in (-1, 1000):
            with pytest.raises(IndexError, match="1000"):
                shards[np.array([3, outside])]
