"""Arms are made of recipes, with one batch for all, and peers have the same sizes."""

from pathlib import Path

import numpy as np
import pytest

from gptlab.bench.arms import Arm
from gptlab.bench.preparing import Field, Peers, recipe_of, sizes, split, write_text
from gptlab.bench.racing import crossing


def test_words_are_recipes_or_settings_for_all():
    words = ["shakespeare:train.precision=float32", "data.path=a:b.txt", "--seed=3", "runs/other"]
    assert split(words, "x") == (
        ["shakespeare:train.precision=float32", "runs/other"],
        ["data.path=a:b.txt", "--seed=3"],
    )
    assert split(["seed=1"], "shakespeare")[0] == ["shakespeare"]


def test_settings_behind_colons_are_of_one_arm():
    target = "shakespeare:model.norm={type: rms_norm, eps: 1e-6}:train.batch_tokens=128:seed=4"
    recipe = recipe_of(target, ["train.batch_tokens=256", "model.dropout=0.5"])
    assert recipe.model.norm.variant == "rms_norm"
    assert (recipe.batch_size(), recipe.seed, recipe.model.dropout) == (2, 4, 0.5)


@pytest.mark.parametrize(("name", "rows"), [("shakespeare", 12), ("baby", 8), ("gpt2", 2)])
def test_a_step_is_one_that_a_cpu_can_repeat(name: str, rows: int):
    recipe = recipe_of(name, [])
    assert recipe.batch_size() == recipe.micro_batch_size() == rows
    assert recipe.tokenizer.variant == ("byte" if name == "gpt2" else "char")


def test_peers_get_the_sizes_and_the_tokens(tmp_path: Path):
    (tmp_path / "input.txt").write_text("what light is it?\n" * 99, encoding="utf-8")
    recipe = recipe_of("baby", [f"data.path={tmp_path / 'input.txt'}", "train.grad_clip=null"])
    job = sizes(recipe) | write_text(recipe, tmp_path)
    assert (job["n_layers"], job["n_heads"], job["d_model"], job["rows"]) == (6, 6, 384, 8)
    assert (job["dropout"], job["bias"], job["lr"], job["betas"]) == (0.2, False, 1e-3, [0.9, 0.99])
    assert job["vocab_size"] == len(set("what light is it?\n"))
    ids = [np.fromfile(job[name], np.uint16) for name in ("train", "val")]
    assert sum(map(len, ids)) == 18 * 99
    assert max(ids[0]) == job["vocab_size"] - 1


def test_what_no_peer_can_have_is_refused():
    with pytest.raises(ValueError, match=r"model.attention=alternating has no n_heads"):
        sizes(recipe_of("gemma2_nano", []))
    large = recipe_of("shakespeare", ["model.vocab_size=70000", "data=python"])
    with pytest.raises(ValueError, match=r"model.vocab_size=70000 is more than 65536"):
        write_text(large, Path("nowhere"))


def test_a_label_stands_once(tmp_path: Path):
    field = Field(tmp_path)
    field.add(Arm("a", "gptlab", {}))
    field.add_control()
    assert [arm.label for arm in field.arms] == ["a", "control"]
    assert field.arms[0].job["folder"] != field.arms[1].job["folder"]
    with pytest.raises(ValueError, match="a is named twice"):
        field.add(Arm("a", "gptlab", {}))


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        (Peers(["nanogpt"]), "--against nanogpt needs --nanogpt FOLDER"),
        (Peers(["nanogpt"], nanogpt=Path("nowhere")), "needs --nanogpt FOLDER"),
        (Peers(["litgpt"]), "--against litgpt needs --litgpt-python FILE"),
        (Peers(["nanogtp"]), "nobody of that name; did you mean 'nanogpt'"),
    ],
)
def test_whom_we_cannot_reach_is_told_before_anything_starts(peers: Peers, message: str):
    with pytest.raises(ValueError, match=message):
        peers.check()


def test_a_crossing_lies_between_two_scores():
    curve = [(25, 10.0, 3.0), (50, 14.0, 2.0), (75, 18.0, 1.0), (100, 22.0, 1.5)]
    assert crossing(curve, 1.25) == pytest.approx(17.0)
    assert crossing(curve, 3.5) == 10.0
    assert crossing(curve, 2.0) == pytest.approx(14.0)
    assert crossing(curve, 0.9) is None
