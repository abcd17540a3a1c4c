"""The noise floor: its interval, its file, and what it is allowed to change."""

import math
from typing import Any

import numpy as np
import pytest
from studies import MakeRecipe

from gptlab.compare import jobs, noise
from gptlab.compare.conduct import How
from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.metrics.val_loss import ValLoss
from gptlab.compare.noise_runs import measure_noise
from gptlab.compare.results import Metric
from gptlab.train.recipe import Recipe
from gptlab.train.run import Outcome
from gptlab.train.session import Session

LOSS = Metric(name="loss", title="loss")
SPEED = Metric(name="speed", title="speed", better="higher", scale="ratio")
SEEDS = range(8)


def floor(values):
    return noise.measure("tiny", "abc", SEEDS, {"loss": values}, [LOSS])


def test_the_interval_of_the_deviation_holds_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [noise.spread(x.tolist(), LOSS) for x in rng.normal(2.0, 0.3, size=(2_000, 8))]
    assert 0.93 < np.mean([x.low <= 0.3 <= x.high for x in found]) < 0.97
    assert np.mean([x.sd**2 for x in found]) == pytest.approx(0.09, rel=0.03)


def test_ratios_vary_by_their_logarithm():
    found = noise.spread([100.0, 110.0, 121.0], SPEED)
    assert found.sd == pytest.approx(math.log(1.1))
    assert found.mean == pytest.approx(331 / 3)


def test_one_run_has_no_spread():
    with pytest.raises(ValueError, match="noise of loss: 1 run has a value, at least 2 are needed"):
        noise.spread([2.0], LOSS)


def test_it_is_kept_for_its_recipe_alone(tmp_path):
    file = tmp_path / "noise.json"
    assert noise.load(file, "abc") is None
    kept = floor([2.0, 2.1, 2.05, 1.98, 2.02, 2.07, 2.0, 2.01])
    noise.save(kept, file)
    assert noise.load(file, "abc") == kept
    with pytest.raises(
        ValueError, match=r"noise\.json: the noise floor of another recipe \(tiny\)"
    ):
        noise.load(file, "abd")
    file.write_text(file.read_text().replace('"sd":', '"se":'))
    with pytest.raises(ValueError, match=r"noise\.json: metrics: loss: sd: Field required"):
        noise.load(file, "abc")


def test_few_pairs_are_planned_with_the_floor_and_many_by_themselves():
    kept = floor(np.random.default_rng(1).normal(2.0, 0.1, size=8).tolist()).metrics["loss"]
    alone = noise.pair_sd(None, 0, kept)
    assert alone == pytest.approx(math.sqrt(2) * kept.sd)
    few, many = noise.pair_sd(0.01, 1, kept), noise.pair_sd(0.01, 200, kept)
    assert alone is not None
    assert few is not None
    assert many is not None
    assert 0.01 < many < 0.02 < few < alone
    assert noise.pair_sd(0.01, 1, None) == pytest.approx(0.01)
    assert noise.pair_sd(None, 0, None) is None


def test_what_is_known_from_more_runs_stays(tiny_recipe: MakeRecipe, how: How):
    said: list[str] = []
    recipe = tiny_recipe()
    three, file = measure_noise(recipe, (0, 1, 2), (BitsPerByte(),), how, said.append)
    assert measure_noise(recipe, (3, 4), (BitsPerByte(),), how, said.append)[0] == three
    assert said[-1] == f"bits_per_byte: {file} knows it from 3 runs, these are 2: it stays"
    both, _ = measure_noise(recipe, (3, 4), (BitsPerByte(), ValLoss()), how, said.append)
    assert both.metrics["bits_per_byte"] == three.metrics["bits_per_byte"]
    assert (both.metrics["val_loss"].n, both.seeds) == (2, [0, 1, 2])
    said.clear()
    more, _ = measure_noise(recipe, (0, 1, 2, 3), (BitsPerByte(),), how, said.append)
    assert more.metrics["bits_per_byte"].n == 4
    assert more.metrics["val_loss"] == both.metrics["val_loss"]
    assert not any("stays" in line for line in said)
    assert noise.load(file, more.identity) == more


def test_seeds_that_are_lost_are_said(
    tiny_recipe: MakeRecipe, how: How, monkeypatch: pytest.MonkeyPatch
):
    begin, finish = jobs.begin, jobs.finish

    def unlucky(recipe: Recipe, *rest: Any) -> Session:
        if recipe.seed == 2:
            raise OSError("no luck")
        return begin(recipe, *rest)

    def diverging(session: Session) -> Outcome:
        if session.recipe.seed == 1:
            raise FloatingPointError("diverged at step 3")
        return finish(session)

    monkeypatch.setattr(jobs, "begin", unlucky)
    monkeypatch.setattr(jobs, "finish", diverging)
    said: list[str] = []
    floor, _ = measure_noise(tiny_recipe(), (0, 1, 2, 3), (BitsPerByte(),), how, said.append)
    assert (floor.seeds, floor.lost, floor.metrics["bits_per_byte"].n) == ([0, 3], [1, 2], 2)
    told = [line.partition(":")[0] for line in said if "left out" in line]
    assert told == ["seed 1 diverged and is left out", "seed 2 failed and is left out"]
