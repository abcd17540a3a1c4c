"""`gptlab bench` from the command line."""

import json
from pathlib import Path

import pytest

from gptlab import cli

SMALL = (
    "model.context_length=16",
    "model.d_model=16",
    "model.n_layers=1",
    "model.attention.n_heads=2",
    "train.batch_tokens=64",
)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", *words])
    return end.value.code or 0  # pyright: ignore


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "shakespear"], "no recipe named 'shakespear'; did you mean 'shakespeare'?"),
        (["train", "--against", "nobody"], "--against nobody: nobody of that name"),
        (["train", "--against", "nanogpt"], "--against nanogpt needs --nanogpt FOLDER"),
        (["train", "shakespeare", "model.norm=rms_norms"], "did you mean 'rms_norm'"),
        (["train", "shakespeare", "shakespeare:"], "no recipe named 'shakespeare:'"),
        (["train", "--against", "reference, nobody"], "--against nobody: nobody of that name"),
        (["generate", "--batch", "0"], "--batch=0 must be a number"),
        (["generate", "--quantize", "int8,int3"], "error: --quantize=int3 must be auto, none"),
        (["attention", "--length", "64", "--window", "64"], "is not longer than --window=64"),
        (["loss", "gpt2", "baby"], "bench loss takes one recipe"),
        (["tokenizer", "--against", "reference", "--megabytes", "0.1"], "does not take part"),
        (["show", "no.json"], "no.json"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys):
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err


def test_half_a_checkout_is_told_what_it_lacks(tmp_path: Path, capsys):
    (tmp_path / "train.py").write_text("import model\n")
    assert run("generate", "--against", "nanogpt", "--nanogpt", str(tmp_path)) == 2
    assert "a checkout of it, with its model.py and config/" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--seconds", "inf"],
        ["train", "--seconds", "nan"],
        ["train", "--to-loss", "inf"],
        ["tokenizer", "--megabytes", "inf"],
    ],
)
def test_what_would_never_end_is_refused(words: list[str], monkeypatch, capsys):
    monkeypatch.setattr("gptlab.show.bench.bench", pytest.fail)
    assert run(*words) == 2
    assert f"Invalid value for '{words[1]}'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_measurement_from_its_start_to_its_files(tmp_path: Path, capsys):
    text, kept = tmp_path / "input.txt", tmp_path / "out.json"
    text.write_text("what light is it?\n" * 200, encoding="utf-8")
    words = ["shakespeare", "shakespeare:model.norm=rms_norm", f"data.path={text}", *SMALL]
    options = ["--against", "reference", "--rounds", "1", "--seconds", "0.05", "--threads", "1"]
    assert run("train", *words, *options, "--json", str(kept)) == 0
    labels = ["shakespeare", "shakespeare:model.norm=rms_norm", "control", "reference"]
    out = capsys.readouterr().out
    assert all(f"\n{label} " in out for label in labels)
    tree = json.loads(kept.read_text())
    assert [arm["label"] for arm in tree["arms"]] == labels
    assert all(len(of) == 2 for each in tree["rounds"] for of in each["speeds"].values())
    assert tree["machine"]["threads"] == 1
    assert str(tmp_path) not in json.dumps(tree)
