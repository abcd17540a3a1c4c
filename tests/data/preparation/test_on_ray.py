"""The same preparation on a cluster: a local Ray, where it is installed."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gptlab.data.prepared import PreparedSet

Prepare = Callable[..., PreparedSet]


def contents(prepared: PreparedSet) -> dict[str, bytes]:
    files = sorted(path for path in prepared.path.rglob("*") if path.is_file())
    return {str(path.relative_to(prepared.path)): path.read_bytes() for path in files}


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_same_bytes_as_without(
    prepare: Prepare, documents: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("ray")
    monkeypatch.setattr("gptlab.data.preparation.source.SMALLEST", 20_000)
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), "utf-8")
    expected = contents(prepare(file, shard_size=3000))
    heard = signal.getsignal(signal.SIGTERM)
    assert contents(prepare(file, shard_size=3000, ray="local")) == expected
    assert signal.getsignal(signal.SIGTERM) is heard
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(file.read_bytes() + b'{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl: line at byte .*: not UTF-8"):
        prepare(bad, ray="local")


def test_without_ray_the_extra_is_named(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    (tmp_path / "a.txt").write_text("text " * 99)
    with pytest.raises(ValueError, match=r"--ray=local: .* ray; install it .*'gptlab\[ray\]'"):
        prepare(tmp_path / "a.txt", ray="local")
