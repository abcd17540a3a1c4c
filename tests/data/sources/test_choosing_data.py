"""How settings choose a source of text."""

from pathlib import Path

import pytest

from gptlab.config import Config, variant_names
from gptlab.data import Data
from gptlab.data.sources._texts import Texts
from gptlab.data.sources.prepared import Prepared
from gptlab.data.sources.python import Python
from gptlab.data.sources.text import Text


class Settings(Config):
    data: Data = Python()


def test_variants():
    assert variant_names(Data) == ["mixture", "prepared", "python", "shakespeare", "text"]


@pytest.mark.parametrize("variant", ["python", "shakespeare", "text"])
def test_a_path_turns_any_variant_into_text(variant: str):
    settings = Settings.parse({"data": {"type": variant, "path": "a.txt", "val_fraction": 0.2}})
    assert settings.data == Text(path="a.txt", val_fraction=0.2)
    assert Settings.from_yaml(settings.to_yaml()) == settings


def test_overriding_the_path():
    settings = Settings(data=Python(val_fraction=0.3))
    assert settings.override(["data.path=a.txt"]).data == Text(path="a.txt", val_fraction=0.3)
    assert settings.override(["data=text", "data.path=a.txt"]).data == Text(path="a.txt")
    assert settings.override(["data.path=2024"]).data.path == "2024"
    assert settings.override(["data.path=a.txt", "data=python"]).data == Python()
    assert settings.override(["data.path=a.txt", "data.path=null"]).data.variant == "python"


def test_a_path_alone_is_enough():
    assert Settings.parse({"data": {"path": "a.txt"}}).data == Text(path="a.txt")


@pytest.mark.parametrize("variant", ["python", "shakespeare"])
def test_without_a_path_a_variant_stays(variant: str):
    settings = Settings.parse({"data": {"type": variant, "path": None, "val_fraction": 0.2}})
    assert settings.data.variant == variant
    assert isinstance(settings.data, Texts)
    assert settings.data.val_fraction == 0.2
    assert Settings.from_yaml(settings.to_yaml()) == settings


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data=text", "data: `text` needs a path: data.path=FILE-or-FOLDER"),
        ("data.path=''", "data.path: String should have at least 1 character (got '')"),
        ("data.val_fraction=0", "data.val_fraction: Input should be greater than 0 (got '0')"),
        ("data.val_fraction=1", "data.val_fraction: Input should be less than 1 (got '1')"),
        ("data.pth=a", "data: no setting named 'pth'; did you mean 'path'?"),
        ("data=shakespear", "data: no sources variant named 'shakespear'; did you mean 'shakespea"),
    ],
)
def test_mistakes_are_named(assignment: str, message: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared whole
        Settings().override([assignment])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_variant_made_in_python_does_not_ignore_a_path():
    with pytest.raises(ValueError, match="`python` has no path"):
        Python(path="a.txt")


def test_names():
    assert Text(path="a.txt").name == "data.path=a.txt"
    assert Python().name == "data=python"


def test_text_is_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text("here", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    data = Settings().override(["data.path=a.txt"]).data
    assert isinstance(data, Text)
    assert data.documents() == ["here"]


def test_a_prepared_set_is_recognised_by_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    settings = Settings(data=Python(val_fraction=0.3))
    assert settings.override(["data.path=set"]).data.variant == "text"
    (tmp_path / "set" / "manifest.json").write_text('{"name": "an extension of a browser"}')
    assert settings.override(["data.path=set"]).data.variant == "text"
    (tmp_path / "set" / "manifest.json").write_text('{\n "kind": "gptlab prepared set",')
    prepared = settings.override(["data.path=set"])
    assert prepared.data == Prepared(path="set")
    assert Settings.from_yaml(prepared.to_yaml()) == prepared
    assert prepared.override(["data.path=gone"]).data == Prepared(path="gone")
    assert prepared.override(["data=text", "data.path=set.txt"]).data == Text(path="set.txt")
    with pytest.raises(ValueError, match=r"data: `prepared` needs a path"):
        settings.override(["data=prepared"])
    with pytest.raises(ValueError, match=r"data\.path: gone: manifest\.json is missing"):
        _ = Prepared(path="gone").opened


@pytest.mark.parametrize(
    "name", [".work/plan.json", "train-00000.bin", "val-00000.documents", "train-100000.documents"]
)
def test_what_is_left_of_a_prepared_set_is_no_text(name: str, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    assert Settings.parse({"data": {"path": str(tmp_path)}}).data == Text(path=str(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match="an unfinished or damaged prepared set: run the same"):
        Settings.parse({"data": {"path": str(tmp_path)}})
