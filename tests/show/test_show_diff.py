from pathlib import Path
from typing import Any

import pytest

from gptlab.recipes import find_recipe
from gptlab.runs.folder import RunFolder
from gptlab.show.diff import diff


def row(out: str, name: str) -> list[str]:
    """Give the cells of a table's row beside its name."""
    return next(line.split()[1:] for line in out.splitlines() if line.split()[:1] == [name])


def make_run(root: Path, name: str, environment: dict[str, Any], *settings: str) -> str:
    recipe = find_recipe("quickstart").override([f"name={name}", *settings]).resolved()
    run = RunFolder.create(root, name, recipe.to_yaml())
    run.write_environment(environment)
    return str(run.path)


def test_equal_recipes_have_no_differences(capsys: pytest.CaptureFixture[str]):
    diff("gpt2", "gpt2")
    assert capsys.readouterr().out == "no differences\n"


def test_settings_and_costs_that_differ_are_listed(capsys: pytest.CaptureFixture[str]):
    diff("gpt2", "gpt2_medium")
    out = capsys.readouterr().out
    assert row(out, "model.d_model") == ["768", "1024"]
    assert row(out, "parameters") == ["124,439,808", "354,823,168"]
    assert "model.dropout" not in out
    assert "Environment" not in out


def test_two_runs_differ_in_their_environment_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    machine = {"cpu": "one", "cores": {"usable": 2}}
    a = make_run(tmp_path, "a", {"git_commit": "abc", "data_sha256": "1", "machine": machine})
    other = {"cpu": "other", "cores": {"usable": 2}}
    b = make_run(
        tmp_path, "b", {"git_commit": None, "data_sha256": "1", "machine": other}, "seed=1"
    )
    diff(a, b)
    out = capsys.readouterr().out
    assert row(out, "seed") == ["0", "1"]
    assert row(out, "git_commit") == ["abc", "null"]
    assert row(out, "machine.cpu") == ["one", "other"]
    assert "data_sha256" not in out
    assert "usable" not in out
    assert "Costs" not in out


def test_a_run_and_its_recipe_differ_in_nothing_that_the_tokenizer_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    diff("quickstart", make_run(tmp_path, "quickstart", {"git_commit": "abc"}))
    assert capsys.readouterr().out == "no differences\n"


def test_an_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'gpt2'"):
        diff("gpt2", "gtp2")
