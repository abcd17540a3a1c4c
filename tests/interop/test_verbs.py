"""`gptlab import` and `gptlab export`: a model from elsewhere is a run like any other, and back."""

import json
import sys
from pathlib import Path

import pytest
import torch
from folders import change_json, equal, llama, write_model, write_tokenizer

import gptlab
from gptlab import cli
from gptlab.data.sources import python

FREE = ("train.sample_tokens=4", "train.evaluate_every=1", "train.tensorboard=false")
SHORT = (*FREE, "train.steps=2", "train.batch_tokens=32", "train.precision=float32")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with a tokenizer, in the folder that commands run in; `transformers` is not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    write_model(tmp_path / "their model", llama())
    write_tokenizer(tmp_path / "their model")
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 99, encoding="utf-8")
    return tmp_path / "their model"


def run(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    assert end.value.code in (None, 0)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Give the line of a user's mistake."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def test_an_imported_model_is_a_run(folder: Path, capsys: pytest.CaptureFixture[str]):
    run("import", folder)
    assert capsys.readouterr().out == f"{Path('runs/their-model')}\n"
    model = gptlab.load("runs/their-model")
    assert equal(model.model, write_model(folder.parent / "again", llama()))
    assert model.tokenizer.start_of_text == 0
    assert isinstance(model.generate("the cat", max_tokens=5, temperature=0), str)
    run("show", "runs/their-model")
    run("runs")
    assert "llama of their model" in capsys.readouterr().out
    step = next(Path("runs/their-model/checkpoints").iterdir())
    state = (step / "state.json").read_text()
    assert json.loads(state, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_text_begins_with_what_the_tokenizer_puts_there(folder: Path):
    run("import", folder)
    model = gptlab.load("runs/their-model")
    ids = [0, *model.tokenizer.encode("the cat").tolist()]
    with torch.no_grad():
        best = int(model.model(torch.tensor([ids]))[0, -1, : model.tokenizer.vocab_size].argmax())
    text = model.generate("the cat", max_tokens=1, temperature=0)
    assert text == model.tokenizer.decode([best])


def test_it_trains_further_in_a_new_run(folder: Path):
    run("import", folder, "--name", "base")
    first = ("train", "runs/base", "train.init_from=runs/base", "data.path=text.txt", "name=tuned")
    run(*first, *SHORT)
    tuned, base = gptlab.load("runs/tuned"), gptlab.load("runs/base")
    assert tuned.tokenizer.fingerprint() == base.tokenizer.fingerprint()
    assert not equal(tuned.model, base.model)
    difference = tuned.model.embedding.weight - base.model.embedding.weight
    assert difference.abs().max() < 1e-3  # it went on from there


def test_it_is_resumed_from_step_0(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    texts = ["the cat sat on the mat. " * 9_000]
    monkeypatch.setattr(python.Python, "documents", lambda self: texts)
    run("import", folder, "--name", "base")
    run("resume", "runs/base", *FREE, "train.steps=1")
    assert "data_sha256" in json.loads(Path("runs/base/environment.json").read_text())
    run("resume", "runs/base", "train.steps=2")
    texts[0] += "and that is that"
    assert "has changed" in refused(capsys, "resume", "runs/base", "train.steps=3")


def test_without_a_tokenizer_bytes_are_tokens(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "tokenizer.json").unlink()
    run("import", folder)
    assert "every byte is a token" in capsys.readouterr().err
    assert gptlab.load("runs/their-model").tokenizer.vocab_size == 257
    write_model(folder.parent / "tiny", llama(vocab_size=200))
    message = refused(capsys, "import", folder.parent / "tiny")
    assert "vocab_size=200 is too small for bytes (257)" in message


def test_what_is_refused_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]):
    run("import", folder)
    assert "exists already" in refused(capsys, "import", folder, "--name", "their-model")
    assert "name='a/b'" in refused(capsys, "import", folder, "--name", "a/b")
    change_json(folder / "config.json", model_type="bert")
    assert "no family for model_type=bert" in refused(capsys, "import", folder, "--name", "b")
    write_model(folder.parent / "small", llama(vocab_size=270))
    write_tokenizer(folder.parent / "small")
    message = refused(capsys, "import", folder.parent / "small")
    assert "model.vocab_size=270 is less than the tokenizer's" in message
    assert [path.name for path in Path("runs").iterdir()] == ["their-model"]


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_a_run_of_ours_goes_there_and_comes_back(
    folder: Path, capsys: pytest.CaptureFixture[str], tokenizer: str
):
    sizes = ("context_length=16", "d_model=16", "n_layers=1", "attention.n_heads=2")
    model = [f"model.{size}" for size in sizes]
    words = ["train", "llama3_nano", *model, f"tokenizer={tokenizer}", "data.path=text.txt"]
    run(*words, *SHORT, "name=ours")
    run("export", "runs/ours", "theirs")
    assert "llama, LlamaForCausalLM" in capsys.readouterr().out
    ours = gptlab.load("runs/ours")
    if tokenizer == "char":  # it could not write down another text
        assert "gptlab reads byte-pair encodings" in refused(capsys, "import", "theirs")
        return
    run("import", "theirs", "--name", "again")
    again = gptlab.load("runs/again")
    assert equal(again.model, ours.model)
    for text in ("the cat sat", "naïve 東京 🙂\n"):
        assert again.tokenizer.encode(text).tolist() == ours.tokenizer.encode(text).tolist()
        assert again.tokenizer.decode(ours.tokenizer.encode(text).tolist()) == text
    assert again.tokenizer.end_of_text == ours.tokenizer.end_of_text


def test_an_export_is_refused_before_anything_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    run("import", folder, "--name", "base")
    assert "exists already" in refused(capsys, "export", "runs/base", "runs")
    assert "has no checkpoint" in refused(
        capsys, "export", "runs/base", "out", "--checkpoint", "best"
    )
    change = ("model.mlp=gelu", "data.path=text.txt", *SHORT)
    run("train", "llama3_nano", "model.n_layers=1", "model.context_length=16", *change, "name=odd")
    message = refused(capsys, "export", "runs/odd", "out")
    assert "the nearest, " in message
    assert "model.mlp=" in message
    assert not Path("out").exists()


def test_a_failed_export_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from gptlab.interop import exporting

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run("import", folder, "--name", "base")
    monkeypatch.setattr(exporting.files, "write_tensors", fail)
    with pytest.raises(OSError, match="No space"):
        exporting.export_run(Path("runs/base"), Path("out"))
    assert sorted(path.name for path in Path().iterdir()) == ["runs", "text.txt", "their model"]


def test_transformers_reads_model_and_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch):
    run("import", folder, "--name", "base")
    run("export", "runs/base", "out")
    monkeypatch.delitem(sys.modules, "transformers")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained("out")
    model = transformers.AutoModelForCausalLM.from_pretrained("out")
    base = gptlab.load("runs/base")
    ids = tokenizer("the cat sat")["input_ids"]
    assert ids == [0, *base.tokenizer.encode("the cat sat").tolist()]
    assert tokenizer.eos_token_id == model.config.eos_token_id == base.tokenizer.end_of_text
    with torch.no_grad():
        theirs, ours = model(torch.tensor([ids])).logits, base.model(torch.tensor([ids]))
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_weights_that_are_not_finite_are_the_folders(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    gpt = llama().build(seed=1)
    with torch.no_grad():
        gpt.embedding.weight[3, 5] = torch.nan
    write_model(folder, llama(), gpt)
    message = refused(capsys, "import", folder)
    assert f"{folder}: its weights are broken: embedding.weight is not finite" in message
    assert not Path("runs").exists()


def test_an_export_to_where_no_folder_can_be(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from gptlab import files

    def fail(path: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    run("import", folder, "--name", "base")
    message = refused(capsys, "export", "runs/base", "text.txt/out")
    assert message == f"error: {Path('text.txt/out')} cannot be made: text.txt is not a folder"
    monkeypatch.setattr(files, "make_folder", fail)
    message = refused(capsys, "export", "runs/base", "out")
    assert message == "error: out cannot be made: No such file or directory"
