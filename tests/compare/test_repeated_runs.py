"""The command that stands beside a run, pasted: the same run again, under another name."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from studies import Conduct, MakeStudy

from gptlab import cli
from gptlab.cli import comparing
from gptlab.compare import jobs
from gptlab.compare.conduct import How
from gptlab.compare.study import Study
from gptlab.runs.folder import RunFolder

HERE = How(root=Path("runs"), studies=Path("studies"), jobs=1, command="gptlab compare this")
ODD = 'it\'s "odd" $HOME [text] é.txt'


def paste(command: str) -> None:
    """Do what a shell does, in this process."""
    threads, *words = shlex.split(command)
    assert words[0] == "gptlab"
    before = torch.get_num_threads()
    torch.set_num_threads(int(threads.removeprefix("OMP_NUM_THREADS=")))
    with pytest.raises(SystemExit) as end:
        cli.main(words[1:])
    torch.set_num_threads(before)
    assert not end.value.code


@pytest.fixture
def odd(
    study: MakeStudy, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """A study of odd settings, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    Path(ODD).write_text(text_file.read_text())
    settings = (f"data.path={json.dumps(ODD)}", "train.grad_clip=null")
    return study(*settings, variants={"rms": "model.norm={type: rms_norm, eps: 1e-6}"})


def test_every_run_is_repeated_under_a_name_of_its_own(odd: Study, run: Conduct):
    results = run(odd, HERE)
    names = {path.name for path in Path("runs").iterdir()}
    for each in (*results.runs, results.runs[0]):
        paste(each.command)
        (new,) = {path.name for path in Path("runs").iterdir()} - names
        names.add(new)
        assert new.startswith(Path(each.folder).name)
        again = RunFolder(Path("runs") / new)
        assert again.evaluations()[-1]["bits_per_byte"] == each.metrics["bits_per_byte"]
        assert [line["train_loss"] for line in again.metrics()[0]] == each.curve.train_loss
    assert len(names) == 2 * len(results.runs) + 1
    assert run(odd, HERE) == results  # which are still those of the first


def test_a_run_that_left_nothing_is_tried_again_by_the_study(
    odd: Study, run: Conduct, monkeypatch: pytest.MonkeyPatch
):
    def unlucky(*arguments: object) -> None:
        raise OSError("no luck")

    monkeypatch.setattr(jobs, "begin", unlucky)
    assert {each.command for each in run(odd, HERE).runs} == {HERE.command}


def test_the_command_of_a_study_is_what_was_typed(monkeypatch: pytest.MonkeyPatch):
    typed = ["compare", ODD, "--variant", "x:model.norm={type: rms_norm},a=null", "train.b=[1, 2]"]
    monkeypatch.setattr(sys, "argv", ["gptlab", *typed, "--report-only"])
    assert shlex.split(comparing._command()) == ["gptlab", *typed]
