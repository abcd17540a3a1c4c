"""Memory is bounded: sources of another size, and a text without a space, need no more of it."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

MEASURED = """
import resource, sys
from pathlib import Path
from unittest.mock import MagicMock
from gptlab.data.preparation.run import Options, prepare
prepare(Options(sys.argv[1], "byte", Path(sys.argv[2]), workers=1, **eval_free), MagicMock())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
""".replace("eval_free", "{'val_documents': 1} if sys.argv[1].endswith('l') else {}")


def peak(file: Path, out: Path) -> float:
    """The most memory of a process that prepares a file, in MB."""
    command = [sys.executable, "-c", MEASURED, str(file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.skipif(sys.platform == "win32", reason="needs getrusage")
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.txt.gz"])
def test_memory_does_not_grow_with_the_source(name: str, tmp_path: Path):
    """60 MB of documents, or of one document without a space."""
    kinds = {"a.jsonl": b'{"text": "' + b"word " * 1000 + b'"}\n', "a.txt": b"x" * 5000}
    piece = kinds.get(name, b"x" * 5000)
    peaks = []
    for i, n_bytes in enumerate((1_000_000, 60_000_000)):
        file = tmp_path / str(i) / name
        file.parent.mkdir()
        content = piece * (n_bytes // len(piece))
        if name.endswith(".gz"):
            content = b"one\n<>\n" + content
            file.write_bytes(gzip.compress(content, 1))
        else:
            file.write_bytes(content)
        peaks.append(peak(file, tmp_path / f"out-{i}"))
    assert peaks[1] - peaks[0] < 35, peaks
