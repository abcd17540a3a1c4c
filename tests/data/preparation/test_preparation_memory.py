"""Memory is bounded: sources of another size, and a text without a space, need no more of it."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MEASURED = """
import re, sys
from pathlib import Path
from unittest.mock import MagicMock
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.run import prepare
source, tokenizer, out = sys.argv[1:]
prepare(Options(source, tokenizer, Path(out), 0.5, workers=1, separator="<>"), MagicMock())
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def peak(file: Path, tokenizer: str, out: Path) -> float:
    """The most memory of a process that prepares a file, in MB."""
    command = [sys.executable, "-c", MEASURED, str(file), tokenizer, str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1e3


def lines(n: int) -> Iterator[bytes]:
    for i in range(n // 5000):
        yield b'{"text": "%d %s"}\n' % (i, b"word " * 995)


def one_word(n: int) -> Iterator[bytes]:
    yield b"one<>two<>three<>four<>"
    for _ in range(n // 5000):
        yield b"x" * 5000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.txt.gz"])
def test_memory_does_not_grow_with_the_source(name: str, tok: Path, tmp_path: Path):
    """Many documents, or one without a space; the second, larger one, as a word of bytes."""
    write = lines if name == "a.jsonl" else one_word
    peaks = []
    for i, n_bytes in enumerate((5_000_000, 60_000_000)):
        file = tmp_path / str(i) / name
        file.parent.mkdir()
        with gzip.open(file, "wb", 1) if name.endswith(".gz") else file.open("wb") as out:
            out.writelines(write(n_bytes))
        peaks.append(peak(file, "byte", tmp_path / f"out-{i}"))
    assert peaks[1] - peaks[0] < 30, peaks
    assert peaks[1] < 200, peaks


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_word_of_megabytes_takes_no_more_than_words(tok: Path, tmp_path: Path):
    peaks = []
    for i, piece in enumerate((b"some words ", b"xyzxyzxyzxy")):
        file = tmp_path / f"{i}.txt"
        file.write_bytes(b"one<>two<>three<>four<>" + piece * 500_000)
        peaks.append(peak(file, str(tok), tmp_path / f"out-{i}"))
    assert peaks[1] < 3 * peaks[0], peaks
    assert peaks[1] < 500, peaks
