import json
import sysconfig
from pathlib import Path

import pytest

from gptlab.data.sources.python import LEAVE_OUT, Python


def test_the_standard_library_is_text_enough():
    documents = Python().documents()
    assert documents == Python().documents()
    assert len(documents) > 200
    assert sum(map(len, documents)) > 3_000_000
    assert Path(json.__file__).read_text(encoding="utf-8") in documents


def library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: {"stdlib": str(folder)}[name])
    return folder


def test_only_library_source_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library(tmp_path, monkeypatch)
    for name in ["os.py", "json/__init__.py", "json/decoder.py", "testing.py"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    for folder in LEAVE_OUT:
        (tmp_path / "json" / folder).mkdir()
        (tmp_path / "json" / folder / "x.py").write_text("left out", encoding="utf-8")
    (tmp_path / "latin1.py").write_bytes("# -*- coding: latin1 -*- é".encode("latin1"))
    (tmp_path / "empty.py").write_bytes(b"")
    (tmp_path / "LICENSE.txt").write_text("left out", encoding="utf-8")
    expected = ["json/__init__.py", "json/decoder.py", "os.py", "testing.py"]
    assert Python().documents() == expected


def test_a_library_without_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library(tmp_path / "python311.zip", monkeypatch)
    with pytest.raises(ValueError, match=r"^data=python: no .py files in .*zip; .*data.path=FILE"):
        Python().documents()
