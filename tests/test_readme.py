"""Every command and every line of Python in the README runs."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from gptlab import cli

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SMALL = (  # what makes a training of any recipe short
    "model.context_length=16",
    "model.d_model=16",
    "model.n_layers=1",
    "model.attention.n_heads=2",
    "train.batch_tokens=64",
    "train.steps=4",
    "train.sample_tokens=8",
    "train.tensorboard=false",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("sh")).splitlines()
    return [shlex.split(line) for line in lines]


def test_the_commands_and_the_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "input.txt").write_text("ROMEO: what light is it?\n" * 99, encoding="utf-8")
    assert len(commands()) >= 10
    for program, verb, *words in commands():
        assert program == "gptlab"
        if verb == "train" and "--dry-run" not in words:
            words += SMALL
        with pytest.raises(SystemExit) as end:
            cli.main([verb, *words])
        assert end.value.code in (None, 0), (verb, words, capsys.readouterr().err)
        assert capsys.readouterr().out.strip() or verb == "resume"
    (python,) = blocks("python")
    (tmp_path / "example.py").write_text(python, encoding="utf-8")
    names = runpy.run_path(str(tmp_path / "example.py"))
    assert sum(p.numel() for p in names["model"].parameters()) == 124_439_808
    assert capsys.readouterr().out.strip()


def test_the_files_that_it_names_exist():
    root = Path(__file__).parent.parent
    named = re.findall(r"\]\(([\w./-]+)\)", README)
    assert named
    assert all((root / name).exists() for name in named)
    folders = re.findall(r"^      ([a-z_]+/)(?:  ([a-z_]+/))? ", README, re.MULTILINE)
    assert all((root / "src/gptlab" / name).is_dir() for pair in folders for name in pair if name)
