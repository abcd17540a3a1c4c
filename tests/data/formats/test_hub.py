"""Data sets read by `datasets`: folders on this disk stand in for the hub, which is not asked."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from gptlab.data import formats
from gptlab.data.formats import Reading, hub
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.run import prepare
from gptlab.data.preparation.source import open_source

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXTS = [f"text {i} naïve" for i in range(50)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for number in range(3):
        lines = [json.dumps({"id": 1, "text": text}) for text in TEXTS[number::3]]
        (tmp_path / f"train-{number}.jsonl").write_text("\n".join(lines), "utf-8")
    return tmp_path


def read(source: str, reading: Reading | None = None) -> list[str]:
    spans = hub.spans(source)
    return [f.text for s, _ in spans for f in formats.fragments(s, reading or Reading())]


def test_files_are_spans(folder: Path):
    spans = hub.spans(f"hf:{folder}")
    assert [span.start for span, _ in spans] == [0, 1, 2]
    found = [f.text for f in formats.fragments(spans[1][0], Reading())]
    assert found == TEXTS[1::3]
    assert sorted(read(f"hf:{folder}")) == sorted(TEXTS)


def test_a_missing_column(folder: Path):
    with pytest.raises(ValueError, match=r"hf:.*no column 'body' .there are: id, text.*--column"):
        read(f"hf:{folder}", Reading(column="body"))


def test_a_split_or_a_data_set_that_is_not_there(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"hf:.*: cannot be read: .*test") as caught:
        hub.spans(f"hf:{folder}:test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf:openwebtext", ("Skylion007/openwebtext", None, "train")),
        ("hf:tinystories:validation", ("roneneldan/TinyStories", None, "validation")),
        ("hf:wikitext", ("Salesforce/wikitext", "wikitext-103-raw-v1", "train")),
        (
            "hf:wikitext:wikitext-2-raw-v1:test",
            ("Salesforce/wikitext", "wikitext-2-raw-v1", "test"),
        ),
        ("hf:fineweb-edu", ("HuggingFaceFW/fineweb-edu", "sample-10BT", "train")),
        ("hf:a/b:c", ("a/b", "c", "train")),
        ("hf:a/b::x", ("a/b", None, "x")),
    ],
)
def test_names(source: str, expected: tuple[str, str | None, str]):
    assert hub.parse(source)[:3] == expected


@pytest.mark.parametrize("source", ["hf:", "hf:a:b:c:d"])
def test_names_that_are_none(source: str):
    with pytest.raises(ValueError, match="hf:NAME"):
        hub.parse(source)


def test_one_commit_of_the_hub_is_read(monkeypatch: pytest.MonkeyPatch):
    """A stand-in for the hub: asked once which commit is its newest, and for that one after it."""
    asked: list[Any] = []

    def load(name: str, config: str | None, **options: Any) -> Any:
        asked.append((name, config, options["revision"], options["streaming"]))
        return SimpleNamespace(num_shards=2, shard=lambda num_shards, index: [{"text": f"{index}"}])

    api = SimpleNamespace(dataset_info=lambda name: SimpleNamespace(sha="abc123"))
    libraries = {
        "datasets": SimpleNamespace(load_dataset=load),
        "huggingface_hub": SimpleNamespace(HfApi=lambda: api),
    }
    monkeypatch.setattr(hub, "needed", lambda package, extra, why: libraries[package])
    assert read("hf:tinystories") == ["0", "1"]
    assert set(asked) == {("roneneldan/TinyStories", None, "abc123", True)}


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"hf:.*needs the package datasets; .*gptlab\[data\]"):
        hub.spans(f"hf:{tmp_path}")


def test_it_is_prepared_like_any_source(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("sets")
    (out / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for i in range(3) for text in TEXTS[i::3]), "utf-8"
    )
    made = []
    for i, source in enumerate((f"hf:{folder}", str(out / "a.jsonl"))):
        listener = MagicMock()
        options = Options(source, "byte", out / str(i), val_documents=5, workers=1)
        made.append(prepare(options, listener))
        assert (listener.estimated.call_args.args[1] is None) == (i == 0)
    from_hub, from_file = made
    for split in ("train", "val"):
        assert from_hub.manifest.of(split) == from_file.manifest.of(split)


def test_an_at_sign_in_a_folders_name(folder: Path):
    here = folder / "a@b"
    here.mkdir()
    (folder / "train-0.jsonl").rename(here / "train.jsonl")
    assert read(f"hf:{here}") == TEXTS[0::3]


def test_a_change_of_a_local_file_is_noticed(folder: Path):
    stamps = open_source(f"hf:{folder}", Reading(), None).stamps()
    assert [Path(str(name)).name for name, _, _ in stamps] == [f"train-{i}.jsonl" for i in range(3)]
    with (folder / "train-1.jsonl").open("a") as file:
        file.write("\n")
    assert open_source(f"hf:{folder}", Reading(), None).stamps() != stamps
