import json
from pathlib import Path

import pytest

from gptlab import machine
from gptlab.cli import main
from gptlab.model.accounting import count_flops
from gptlab.recipes import find_recipe
from gptlab.show import _profiling
from gptlab.show._profiling import Limits, bytes_of_updates, part_times
from gptlab.train.recipe import Recipe
from gptlab.train.rehearsal import rehearse
from gptlab.train.watching import Watched

TINY = (
    *("model.d_model=16", "model.n_layers=2", "model.context_length=8", "train.batch_tokens=32"),
    *("model.attention.n_heads=2", "train.precision=float32", "train.device=cpu"),
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_profiling, "SECONDS", 0.0)
    monkeypatch.setattr(machine, "product_speed", lambda device, dtype, n: 1e9)
    monkeypatch.setattr(machine, "memory_bandwidth", lambda device: 1e9)


def tiny(*settings: str) -> Recipe:
    return find_recipe("shakespeare").override([*TINY, *settings]).resolved()


def run(*words: str) -> object:
    with pytest.raises(SystemExit) as end:
        main(["show", "shakespeare", *TINY, *words])
    return end.value.code


def test_json_accounts_for_the_whole_step(capsys: pytest.CaptureFixture[str]):
    assert run("--profile", "--json", "train.micro_batch_tokens=16") == 0
    facts = json.loads(capsys.readouterr().out)
    parts, step = facts["parts"], facts["step"]
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    times = sum(part["forward"] + part["backward"] for part in parts.values())
    assert times == pytest.approx(step["seconds"])
    assert step["portions"] == 2
    flops = 32 * count_flops(tiny().model).training
    assert sum(part["flops"] for part in parts.values()) == pytest.approx(flops)
    assert step["of_peak"] == pytest.approx(flops / step["seconds"] / 1e9)
    assert step["tokens_per_second"] == pytest.approx(32 / step["seconds"])
    decoding = facts["decoding"]
    speed = decoding["bytes_per_token"] * decoding["tokens_per_second"]
    assert decoding["of_bandwidth"] == pytest.approx(speed / 1e9)


def test_a_table_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "new" / "profile.png"
    assert run("--profile", "--plot", str(picture)) == 0
    out = capsys.readouterr().out
    for name in ("embedding", "norm", "attention", "mlp", "residual", "head", "optimizer"):
        assert f"\n{name}" in out
    assert "% of peak" in out
    assert "Generating one text after 4 tokens" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "x.png"], "error: --plot x.png shows what --profile measures: give both"),
        (["--profile", "--plot", "x.nothing"], "error: --plot x.nothing: a picture's suffix is"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert run(*words) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.show.profile.measure", pytest.fail)
    (tmp_path / "folder.png").mkdir()
    assert run("--profile", "--plot", str(tmp_path / "folder.png")) == 2
    assert "folder.png is a folder: name a file in it" in capsys.readouterr().err


def test_portions_repeat_the_model_and_not_the_update():
    s = rehearse(tiny(), pytest.fail)
    s.optimizers.step()
    watched = Watched(
        {"mlp": {"forward": 1.0, "backward": 2.0}, "optimizer": {"forward": 1.0}}, {"mlp": 1000}
    )
    parts = part_times(s, watched, 2.0, 3, Limits(1e6, 1e6))
    assert parts["mlp"].forward == 0.5 * 3
    assert parts["mlp"].backward == 1.0 * 3
    assert parts["optimizer"].forward == 0.5
    assert parts["mlp"].share == pytest.approx(4.5 / 5)
    matrices = 2 * 2 * 16 * 64  # layers, up and down
    assert parts["mlp"].flops == 6 * matrices * 32 * 3
    assert parts["mlp"].bytes == 3 * 3 * (1000 + 4 * matrices)
    assert parts["mlp"].of_peak == pytest.approx(parts["mlp"].flops / 4.5 / 1e6)
    assert parts["optimizer"].of_bandwidth == pytest.approx(parts["optimizer"].bytes / 0.5 / 1e6)


def test_adamw_moves_28_bytes_of_each_weight():
    from gptlab.train.loop import take_step

    s = rehearse(tiny(), pytest.fail)
    take_step(s)
    numbers = sum(p.numel() for p in s.model.parameters())
    updates = bytes_of_updates(s)
    assert updates["optimizer"] == pytest.approx(28 * numbers, rel=0.02)  # and counts of steps
    assert updates["clipping"] == 4 * numbers
