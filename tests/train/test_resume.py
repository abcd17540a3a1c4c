"""A resumed run equals an uninterrupted one, bit for bit (F2, F10)."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ends import assert_same_end, last_files, quiet

from gptlab import machine
from gptlab.runs import checkpoint
from gptlab.runs.folder import RunFolder
from gptlab.train.opening import continued
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

MakeRecipe = Callable[..., Recipe]
CONFIGS = {
    "adamw cosine": ("optimizer=adamw", "schedule=cosine", "schedule.warmup=0.2"),
    "muon wsd": ("optimizer=muon", "schedule=wsd", "schedule.decay=0.5"),
    "constant, accumulated, dropout": (
        "schedule=constant",
        "train.micro_batch_tokens=8",
        "model.dropout=0.3",
    ),
    "modern parts": (
        "model.positions=rotary",
        "model.norm=rms_norm",
        "model.mlp=swiglu",
        "model.attention.window=3",
        "model.attention.n_kv_heads=1",
        "model.attention.qk_norm=rms_norm",
        "model.head=untied",
    ),
    "held at unit norm": (
        "model.norm=l2",
        "model.attention=normalized",
        "model.attention.n_heads=2",
        "model.mlp=normalized_swiglu",
        "model.residual=normalized",
        "model.head=token_scaled",
        "model.initialization=unit_norm",
        "optimizer=muon",
    ),
    "experts balanced by a bias, accumulated": (
        "optimizer=muon",
        "train.micro_batch_tokens=8",
        "model.mlp={type: mixture_of_experts, n_experts: 6, load_bias_step: 0.01}",
    ),
}

AS_IF_LARGE = {
    "float32": (("model.dropout=0.3",), {"FastDropout", "LinearCrossEntropy"}),
    "bf16": (
        ("model.dropout=0.3", "train.precision=bf16"),
        {"FastDropout", "LinearCrossEntropy"},
    ),
    "bf16, no dropout": (("train.precision=bf16",), {"CausalAttention", "LinearCrossEntropy"}),
}


@pytest.fixture(scope="module")
def short_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text whose epoch is 8 steps long, so that 20 steps cross the end of two."""
    path = tmp_path_factory.mktemp("short") / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 7, encoding="utf-8")
    return path


@pytest.mark.parametrize("settings", CONFIGS.values(), ids=CONFIGS.keys())
def test_resume_from_every_step(
    settings: tuple[str, ...], tiny_recipe: MakeRecipe, short_text: Path, tmp_path: Path
):
    check_resuming(tiny_recipe(f"data.path={short_text}", *settings), 20, tmp_path)


@pytest.mark.parametrize(("settings", "forms"), AS_IF_LARGE.values(), ids=AS_IF_LARGE.keys())
def test_resume_of_what_large_models_take(
    settings: tuple[str, ...],
    forms: set[str],
    as_if_large: Counter[str],
    tiny_recipe: MakeRecipe,
    short_text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Dropout by random bits, the loss in chunks and attention in blocks, in portions."""
    monkeypatch.setattr(machine, "bf16_is_fast", lambda device: True)
    accumulated = ("train.micro_batch_tokens=16", *settings)
    check_resuming(tiny_recipe(f"data.path={short_text}", *accumulated), 8, tmp_path)
    assert forms <= set(as_if_large)


def check_resuming(recipe: Recipe, steps: int, folder: Path) -> None:
    """Resume a run after each of its steps; assert that all end alike."""
    often = recipe.train.but(steps=steps, checkpoint_every=1, keep_last=steps)
    whole = start_run(recipe.but(name="whole", train=often), folder, say=quiet).run.path
    saved_steps = list(range(1, steps + 1))
    assert [step for step, _ in checkpoint.every(whole / "checkpoints")] == saved_steps
    for step in saved_steps[:-1]:
        part = folder / f"from-{step}"
        shutil.copytree(whole, part)
        for saved, path in checkpoint.every(part / "checkpoints"):
            if saved > step:
                shutil.rmtree(path)
        assert resume_run(part, say=quiet).reason == "done"
        assert_same_end(whole, part)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_fifty_kills_at_random_moments(tiny_recipe: MakeRecipe, tmp_path: Path):
    """Kill the process 50 times, saves included; the run still ends as if nothing had happened."""
    recipe = tiny_recipe(
        "train.steps=800",
        "train.checkpoint_every=1",
        "train.evaluate_every=50",
        "train.sample_tokens=0",
    )
    whole = start_run(recipe.but(name="whole"), tmp_path, say=quiet).run.path
    draw, kills, broken = random.Random(0), 0, tmp_path / "broken"

    def live() -> None:
        if broken.exists():
            resume_run(broken, say=quiet)
        else:
            start_run(recipe.but(name="broken"), tmp_path, say=quiet)

    while True:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            try:
                live()
            finally:
                os._exit(0)
        if kills < 50:
            time.sleep(draw.uniform(0.03, 0.15))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        kills += 1
    if kills < 50:
        pytest.fail(f"the run was over after {kills} kills: make it longer")
    assert RunFolder.open(broken).state() == "done"
    assert_same_end(whole, broken)


def test_a_killed_run_is_called_interrupted(tiny_recipe: MakeRecipe, tmp_path: Path):
    run = start_run(tiny_recipe("name=a"), tmp_path, say=quiet).run
    assert run.state() == "done"
    run.write_status("running", 3)
    assert run.state() == "interrupted"


def test_longer_than_planned(tiny_recipe: MakeRecipe, tmp_path: Path):
    path = start_run(tiny_recipe("name=a", "schedule=constant"), tmp_path, say=quiet).run.path
    assert resume_run(path, say=quiet).session.step == 12
    assert resume_run(path, ["train.steps=15"], say=quiet).session.step == 15
    whole = tiny_recipe("name=b", "schedule=constant", "train.steps=15")
    assert last_files(start_run(whole, tmp_path, say=quiet).run.path) == last_files(path)
    assert RunFolder.open(path).config_tree()["train"]["steps"] == 15


@pytest.mark.parametrize(
    "change",
    [
        "model.d_model=32",
        "model.norm=rms_norm",
        "model.dropout=0.1",
        "optimizer.lr=0.5",
        "optimizer=muon",
        "schedule=constant",
        "seed=4",
        "train.batch_tokens=64",
        "train.precision=bf16",
        "data.val_fraction=0.2",
        "tokenizer=byte",
        "name=other",
    ],
)
def test_what_changes_the_run_is_refused(change: str, tiny_recipe: MakeRecipe, tmp_path: Path):
    path = start_run(tiny_recipe("name=a", "train.steps=1"), tmp_path, say=quiet).run.path
    setting = change.partition("=")[0]
    with pytest.raises(ValueError, match=rf"^{setting}.*cannot be changed on resuming"):
        resume_run(path, [change], say=quiet)


def test_changed_text_is_refused(tiny_recipe: MakeRecipe, text_file: Path, tmp_path: Path):
    mine = tmp_path / "mine.txt"
    mine.write_text(text_file.read_text(), encoding="utf-8")
    recipe = tiny_recipe("name=a", f"data.path={mine}", "train.steps=1")
    path = start_run(recipe, tmp_path, say=quiet).run.path
    mine.write_text(text_file.read_text()[1:] + "a", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the text of .* has changed"):
        resume_run(path, ["train.steps=2"], say=quiet)
    assert (
        resume_run(path, ["train.steps=2", f"data.path={text_file}"], say=quiet).session.step == 2
    )


def test_changed_tokenizer_is_refused(tiny_recipe: MakeRecipe, tmp_path: Path):
    recipe = tiny_recipe("name=a", "train.steps=1")
    run = start_run(recipe, tmp_path, say=quiet).run
    file = run.tokenizer / "tokenizer.json"
    tree = json.loads(file.read_text())
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
    assert text == file.read_text()
    file.write_text(text.replace('"a', '"', 1) if '"a' in text else text.replace("a", "", 1))
    with pytest.raises(ValueError, match="tokenizer"):
        resume_run(run.path, ["train.steps=2"], say=quiet)


def test_a_damaged_checkpoint_is_passed_over(tiny_recipe: MakeRecipe, tmp_path: Path):
    whole = start_run(tiny_recipe("name=a"), tmp_path, say=quiet).run.path
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    (step, newest) = checkpoint.every(part / "checkpoints")[-1]
    assert step == 12
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(weights)
    said: list[str] = []
    resume_run(part, say=said.append)
    assert any("step-00000012" in text and "passed over" in text for text in said)
    assert_same_end(whole, part)


def test_a_run_without_a_checkpoint_starts_again(tiny_recipe: MakeRecipe, tmp_path: Path):
    whole = start_run(tiny_recipe("name=a"), tmp_path, say=quiet).run.path
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    shutil.rmtree(part / "checkpoints")
    said: list[str] = []
    resume_run(part, say=said.append)
    assert any("no checkpoint" in text for text in said)
    assert_same_end(whole, part)


def test_where_a_run_goes_on_is_kept_with_the_step():
    here, there = {"gptlab": "1", "machine": "a"}, {"gptlab": "1", "machine": "b"}
    assert continued(here, here, 4) == here
    moved = continued(here, there, 4)
    assert moved == here | {"continued": [{"step": 4, "machine": "b"}]}
    assert continued(moved, there, 6) == moved
    back = continued(moved, here, 6)
    assert back["continued"] == [*moved["continued"], {"step": 6, "machine": "a"}]
    assert continued(back, here, 2) == here  # what came after step 2 is done again
    assert continued(moved, there, 0) == there


def test_a_run_that_is_over_did_not_move(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """To resume it elsewhere takes no step there; with more steps it goes on there."""
    run = start_run(tiny_recipe("name=a", "schedule=constant"), tmp_path, say=quiet).run
    before = (run.path / "environment.json").read_bytes()
    monkeypatch.setattr(machine, "describe", lambda: {"cpu": "another"})
    session = resume_run(run.path, say=quiet).session
    assert (run.path / "environment.json").read_bytes() == before
    resume_run(run.path, [f"train.steps={session.step + 1}"], say=quiet)
    (move,) = run.environment()["continued"]
    assert move == {"step": session.step, "machine": {"cpu": "another"}}


def test_a_mixture_that_has_moved_goes_on(tiny_recipe: MakeRecipe, tmp_path: Path):
    for name, text in {"a.txt": "abcd " * 90, "b.txt": "dcba " * 90}.items():
        (tmp_path / name).write_text(text)
    of = [{"type": "text", "path": str(tmp_path / name)} for name in ("a.txt", "b.txt")]
    recipe = tiny_recipe(f"data={json.dumps({'type': 'mixture', 'of': of})}", "name=mixed")
    half = recipe.but(train=recipe.train.but(steps=5), schedule={"type": "constant"})
    path = start_run(half, tmp_path, say=quiet).run.path
    (tmp_path / "a.txt").rename(tmp_path / "moved.txt")
    moved = f"data.of.0.path={tmp_path / 'moved.txt'}"
    assert resume_run(path, [moved, "train.steps=7"], say=quiet).session.step == 7
    with pytest.raises(ValueError, match=r"data\.weights=.* cannot be changed"):
        resume_run(path, [moved, "data.weights=[1, 2]"], say=quiet)


def test_further_heads_may_come_and_go_between_runs(tiny_recipe: MakeRecipe, tmp_path: Path):
    with_heads, without = "model.multi_token={depth: 1, weight: 0.3}", "model.multi_token=null"
    first = start_run(tiny_recipe(with_heads, "name=first"), tmp_path, say=quiet).run.path
    for name, setting in (("second", without), ("third", with_heads)):
        recipe = tiny_recipe(setting, f"name={name}", f"train.init_from={first}")
        first = start_run(recipe, tmp_path, say=quiet).run.path
