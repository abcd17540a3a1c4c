"""Whether a run's numbers are those of this code is asked of what training imports, no more."""

import tomllib
from pathlib import Path

from gptlab.train.environment import BESIDE_TRAINING

ROOT = Path(__file__).parents[2]


def test_all_that_lies_above_training_is_left_out_of_the_hash_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    above = " | ".join(layers[: layers.index("train")]).split(" | ")
    assert {name.removesuffix(".py") for name in BESIDE_TRAINING} == set(above)
