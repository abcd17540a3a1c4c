"""`gptlab prepare` and `gptlab data`: what is typed and what comes back."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gptlab import cli
from gptlab.data.preparation.estimate import Estimate
from gptlab.data.preparation.part import Progress
from gptlab.data.preparation.source import Source
from gptlab.show.preparation import Display

Command = Callable[..., tuple[object, str, str]]


@pytest.fixture
def gptlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps({"text": f"document {i} of text", "id": i}) for i in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, lines[0], '{"text": ""}']))
    (tmp_path / "input.txt").write_text("one day\nanother day\n" * 200)

    def run(*words: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def test_prepare_show_verify(gptlab: Command):
    words = ("--tokenizer", "byte", "--out", "data/a", "--val-docs", 10, "--dedup")
    code, out, err = gptlab("prepare", "a.jsonl", *words, "--shard-size", "1k")
    assert code == 0, err
    assert re.search(r"about \d+ documents · .*B of text · .*tokens · .*disk", err)
    assert re.search(r"^train\s+190 ", out, re.MULTILINE)
    assert re.search(r"^val\s+10 ", out, re.MULTILINE)
    assert "202 documents read; left out: 1 empty, 1 copies" in out
    assert "gptlab train data.path=data/a" in out
    code, out, err = gptlab("data", "show", "data/a", "-n", 3)
    assert code == 0, err
    assert out.count("--- train document") == out.count("--- val document") == 3
    assert "document 1 of text" in out
    assert gptlab("data", "verify", "data/a")[0] == 0
    shard = Path("data/a/train-00001.bin")
    content = bytearray(shard.read_bytes())
    content[9] ^= 1
    shard.write_bytes(content)
    code, _, err = gptlab("data", "verify", "data/a")
    assert code == 2
    assert err.splitlines()[-1].endswith("(the sha256 differs): train-00001.bin")


def test_a_lone_text_and_line_ends_as_separators(gptlab: Command):
    code, out, err = gptlab("prepare", "input.txt", "--tokenizer", "byte", "--out", "b")
    assert code == 0, err
    assert "the end of the only document, from 0.99 of it on" in out
    more = ("--separator", r"\n", "--val-docs", 1, "--limit-docs", 100)
    code, out, err = gptlab("prepare", "input.txt", "--tokenizer", "byte", "--out", "c", *more)
    assert code == 0, err
    assert "100 documents read" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gone.txt"], "gone.txt: no such file or folder"),
        (["gone/*.txt"], "gone/*.txt: no file has such a name"),
        (["empty.txt"], "empty.txt: empty"),
        (["a.jsonl", "--column", "txt"], "no column 'txt'; did you mean 'text'?"),
        (["a.jsonl", "--tokenizer", "nowhere"], "nowhere"),
        (["a.jsonl", "--shard-size", "10X"], "--shard-size=10X is not a number"),
        (["a.jsonl", "--shard-size", "999"], "--shard-size=999 must be 1,000 or more"),
        ([""], "SOURCE is empty"),
        (["a.jsonl", "--errors", "ignore"], "--errors=ignore must be one of strict, replace, skip"),
        (["a.jsonl", "--val-fraction", "1.5"], "--val-fraction=1.5 must be between 0 and 1"),
        (["a.jsonl", "--val-fraction", "0.5", "--val-docs", "3"], "give one of them"),
        (["a.jsonl", "--val-docs", "5000"], "none of its 201 documents is left for training"),
        (["a.jsonl", "--val-docs", "201"], "choose --val-docs between 1 and 200"),
        (["a.jsonl", "--limit-docs", "0"], "--limit-docs=0"),
        (["input.txt", "--separator", ""], "--separator=''"),
        (["input.txt", "--val-docs", "1"], "it has 1 document, training and validation"),
        (["folder"], "folder: no text in this folder"),
    ],
)
def test_mistakes(words: list[str], problem: str, gptlab: Command, tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "picture.png").write_bytes(b"\x89PNG\0")
    given = ["prepare", *words, "--out", "out"]
    if "--tokenizer" not in words:
        given += ["--tokenizer", "byte"]
    code, _, err = gptlab(*given)
    mistakes = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(mistakes) == 1, err
    assert "" not in err.splitlines()
    assert problem in mistakes[0]
    assert "Traceback" not in err


def test_an_unknown_option_is_no_setting(gptlab: Command):
    code, _, err = gptlab("prepare", "a.jsonl", "--tokenizer", "byte", "--out", "x", "--worker", 2)
    assert code == 2
    assert "--worker" in err


SOURCE = Source("books", [], 3, [], False)


def shown(interactive: bool) -> tuple[Display, io.StringIO]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=interactive, width=120, color_system=None)
    return Display(console), output


def test_progress_without_a_terminal(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr("gptlab.show.preparation.time.monotonic", lambda: now)
    display, output = shown(interactive=False)
    display.estimated(SOURCE, Estimate(5000, 4_000_000, 1_000_000, 5_000_000, 75.0), 2)
    display.began(4_000_000, 1_000_000)
    now = 102.0
    display.progress(Progress(100, 250_000, 500_000))
    assert "MB/s" not in output.getvalue()
    now = 111.0
    display.progress(Progress(100, 250_000, 500_000))
    lines = output.getvalue().splitlines()
    assert lines == [
        "3 files of books are not text: left out",
        "about 5,000 documents · 4 MB of text · 1 Mtokens · 5 MB of disk while it runs · "
        "1m 15s with 2 at work",
        "going on: 1 MB of text are done already",
        "50% · 200 documents · 500 ktokens · 0.1 MB/s · 22s left",
    ]


def test_progress_in_a_terminal():
    display, output = shown(interactive=True)
    display.began(4_000_000, 0)
    display.progress(Progress(1234, 250_000, 500_000))
    display.bar.refresh()
    display.bar.stop()
    assert "1,234 documents · 250 ktokens" in output.getvalue()
    assert "left" in output.getvalue()


def test_a_size_that_is_not_known():
    display, output = shown(interactive=False)
    display.estimated(SOURCE, None, 2)
    display.began(0, 0)
    display.progress(Progress(1, 1, 1))
    assert "left" not in display._line()
    assert "its size is not known" in output.getvalue()


def test_documents_cannot_steer_a_terminal(gptlab: Command, tmp_path: Path):
    texts = [f"{i} \x1b[2J\x9b1m\tcafé\nend" for i in range(20)]
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    gptlab("prepare", "b.jsonl", "--tokenizer", "byte", "--out", "b", "--val-docs", 5)
    _, out, _ = gptlab("data", "show", "b")
    assert "\x1b" not in out
    assert "\\x1b[2J\\x9b1m\tcafé\nend" in out
