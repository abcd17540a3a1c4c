"""`gptlab probe` from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlab import cli, load
from gptlab.config import variant_names
from gptlab.probes.reading import open_text
from gptlab.probes.tasks import Task
from gptlab.show.probe import find_tasks

QUICK = ("--steps", "6", "--seeds", "2", "--lr", "1e-3,1e-2")
TINY = (
    "model.context_length=16",
    "model.d_model=16",
    "model.n_layers=1",
    "model.attention.n_heads=2",
    "train.batch_tokens=64",
    "train.steps=4",
    "train.sample_tokens=0",
    "train.precision=float32",
    "train.tensorboard=false",
)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return end.value.code or 0  # pyright: ignore


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probed")
    text = folder / "input.txt"
    text.write_text("ROMEO: what light through yonder window breaks\n" * 200, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, positions in (("learned", "learned"), ("rotary", "rotary")):
            settings = [*TINY, f"model.positions={positions}", f"name={name}"]
            assert run("train", "shakespeare", f"data.path={text}", *settings) == 0
    return folder / "runs"


def test_a_recipe_is_probed_into_a_table_json_and_a_picture(tmp_path: Path, capsys):
    words = ["shakespeare", "mqar.pairs=[2,4]", "--task", "mqar,induction", *QUICK]
    assert run("probe", *words, "--json", "--plot", tmp_path / "out.png") == 0
    out, err = capsys.readouterr()
    tree = json.loads(out)
    assert [each["task"] for each in tree["tasks"]] == ["mqar", "induction"]
    mqar = tree["tasks"][0]
    assert [each["name"] for each in mqar["conditions"]] == ["2 pairs", "4 pairs"]
    assert sorted((each["lr"], each["seed"]) for each in mqar["trials"] if not each["seed"]) == [
        (1e-3, 0),
        (1e-2, 0),
    ]
    assert len(mqar["trials"]) == 3
    assert "left" in err
    assert "step 6/36 · mqar" in err  # of both tasks
    assert (tmp_path / "out.png").stat().st_size > 1000
    assert run("probe", *words) == 0
    out = capsys.readouterr().out
    assert "0 of 2" in out
    assert "never" in out


def test_all_is_every_task():
    tasks, changes = find_tasks(["all"], ["needle.length=32", "model.n_layers=1"])
    assert [task.variant for task in tasks] == variant_names(Task)
    assert Task.parse({"type": "needle", "length": 32}) in tasks
    assert changes == ["model.n_layers=1"]


def test_a_run_is_read_beyond_its_context(trained: Path, tmp_path: Path, capsys):
    assert run("probe", trained / "rotary", "--json", "--plot", tmp_path / "out.png") == 0
    length, induction = json.loads(capsys.readouterr().out)["tasks"]
    assert [each["value"] is None for each in length["findings"]] == [False] * 4
    once, again, gain = (each["value"] for each in induction["findings"])
    assert gain == pytest.approx(once - again)
    assert run("probe", trained / "learned", "--task", "length") == 0
    assert capsys.readouterr().out.count("none: its positions end at 16") == 2


def test_the_loss_by_position_is_that_of_the_logits(trained: Path):
    text = open_text(str(trained / "rotary"))
    found = Task.parse({"type": "length", "times": [1, 2]}).read(text, lambda done, most: None)
    model, n = load(trained / "rotary").model, (len(text.tokens) - 1) // 32
    rows = torch.from_numpy(np.stack([text.tokens[i * 32 : i * 32 + 33] for i in range(n)]))
    with torch.no_grad():
        logs = model(rows[:, :-1]).log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
    for finding, span in zip(found.findings, (slice(8), slice(8, 16), slice(16, 32)), strict=True):
        assert finding.value == pytest.approx(-logs[:, span].mean().item(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shakespear"], "no recipe named 'shakespear'"),
        (["shakespeare", "--task", "mqarr"], "no tasks variant named 'mqarr'; did you mean 'mqar'"),
        (["shakespeare", "--lr", "fast"], "--lr=fast must be numbers above 0"),
        (["shakespeare", "--lr", "0"], "--lr=0 must be numbers above 0"),
        (["shakespeare", "mqar.pairs=[5]"], "must be a multiple of 15"),
        (["shakespeare", "mqar.pears=5"], "did you mean 'pairs'"),
        (["shakespeare", "mqar.pairs=[2]", "--task", "induction"], "add it to --task"),
        (["shakespeare", "model.vocab_size=9"], "is decided by the task"),
        (["shakespeare", "model.norm=rms_norms"], "did you mean 'rms_norm'"),
        (["shakespeare", "model.attention.n_heads=7"], "does not divide"),
        (["shakespeare", "--plot", "out.txt"], "a picture's suffix is one of"),
        (["shakespeare", "--plot", f"{__file__}/out.png"], f"nothing can be made in {__file__}"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys):
    assert run("probe", *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.splitlines()[-1].startswith("error: ")


def test_a_run_is_neither_changed_nor_trained(trained: Path, capsys):
    for words, message in (
        (["model.n_layers=2"], "config.yaml to probe its recipe with this setting"),
        (["--task", "mqar"], "config.yaml to probe its recipe"),
        (["--lr", "1e-2", "--steps", "5"], "--lr, --steps: a trained run learns nothing here; "),
        (["--seeds", "2"], "--seeds: a trained run learns nothing here; "),
        (["--own-size"], "--own-size: a trained run learns nothing here; "),
        (["--plot", f"{__file__}/out.png"], f"nothing can be made in {__file__}"),
    ):
        assert run("probe", trained / "rotary", *words) == 2
        assert message in capsys.readouterr().err
