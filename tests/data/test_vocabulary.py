"""A tokenizer by itself: the same text gives the same file, whole or not there."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gptlab.data.vocabulary import read_source, train_tokenizer
from gptlab.tokenizer import FILE, Encoder, find_chat, open_encoder
from gptlab.tokenizer.bpe import BPE

TEXT = Path(__file__).read_text(encoding="utf-8")


def make_folder(folder: Path, order: Sequence[int]) -> Path:
    folder.mkdir()
    for number in order:
        part = TEXT[number * 500 : (number + 1) * 500] + "naïve 東京"
        (folder / f"{number}.txt").write_text(part, encoding="utf-8")
    return folder


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_and_the_order_of_a_listing_change_nothing(threads: str, tmp_path: Path):
    folder = make_folder(tmp_path / "a", range(6))
    code = (
        "import os, sys\n"
        "walk = os.walk\n"
        "os.walk = lambda *a, **k: ((p, f, n[::-1]) for p, f, n in walk(*a, **k))\n"
        "from gptlab import cli\n"
        "cli.main(['tokenizer', 'train', sys.argv[1], '--out', sys.argv[2], '--vocab-size=400'])\n"
    )
    out = tmp_path / "out"
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    command = [sys.executable, "-c", code, str(folder), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = make_folder(tmp_path / "b", [3, 1, 5, 0, 2, 4])
    train_tokenizer(BPE(vocab_size=400), read_source(str(again)), tmp_path / "here")
    assert (out / FILE).read_bytes() == (tmp_path / "here" / FILE).read_bytes()
    assert open_encoder(out).vocab_size == 400


@pytest.mark.parametrize("limit", [1, *range(499, 520), 1100, 10**9])
def test_a_limit_counts_bytes_and_cuts_no_character(limit: int, tmp_path: Path):
    folder = make_folder(tmp_path / "a", range(3))
    whole = read_source(str(folder))
    documents = read_source(str(folder), limit)
    first, n_bytes = "".join(documents), sum(len(x.encode()) for x in documents)
    assert "".join(whole).startswith(first)
    assert n_bytes <= limit
    assert n_bytes > limit - 3 * len(documents) or documents == whole
    assert all(documents)


def test_advance_hears_of_every_character(tmp_path: Path):
    heard: list[int] = []
    train_tokenizer(BPE(vocab_size=300), ["abc", TEXT], tmp_path / "out", advance=heard.append)
    assert heard == [3, len(TEXT)]


def test_it_has_its_chat_template(tmp_path: Path):
    chat = find_chat("chatml")
    encoder = train_tokenizer(
        BPE(vocab_size=300, special=chat.special), [TEXT], tmp_path / "out", chat
    )
    assert open_encoder(tmp_path / "out").chat == chat
    assert open_encoder(tmp_path / "out").fingerprint() == encoder.fingerprint()


def test_what_is_there_stays(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    train_tokenizer(BPE(vocab_size=300), [TEXT], tmp_path / "empty")
    before = (tmp_path / "empty" / FILE).read_bytes()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "file", "link"):
        with pytest.raises(ValueError, match=rf"--out=.*{name} is there already"):
            train_tokenizer(BPE(vocab_size=280), [TEXT], tmp_path / name)
    assert (tmp_path / "empty" / FILE).read_bytes() == before


def test_failing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    train: Callable[[], Encoder] = lambda: train_tokenizer(  # noqa: E731
        BPE(vocab_size=280), [TEXT], tmp_path / "out"
    )
    for name in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(name, fail)
            with pytest.raises(OSError, match="No space left"):
                train()
        assert list(tmp_path.iterdir()) == []
    chat = find_chat("chatml")
    with pytest.raises(ValueError, match=r"uses '<\|im_start\|>', which the tokenizer does not"):
        train_tokenizer(BPE(vocab_size=280), [TEXT], tmp_path / "out", chat)
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_prepared_can_be_learned_from(tmp_path: Path):
    rows = [json.dumps({"text": text}) for text in ("naïve 東京", "", "b" * 3_000_000)]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(rows))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "c.txt").write_text("c" * 3_000_000)
    assert read_source(str(tmp_path)) == ["naïve 東京", "b" * 3_000_000, "c" * 3_000_000]
    assert read_source(str(tmp_path / "*.gz"), 20) == ["naïve 東京", "b" * 7]
    with pytest.raises(ValueError, match=r"b.txt: no UTF-8 text in it"):
        read_source(str(tmp_path / "b.txt"))


def test_sources_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert "import" in "".join(read_source("python", 100_000))
    (tmp_path / "python").write_text("mine")
    assert read_source("python") == ["mine"]
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder"):
        read_source("nowhere")
