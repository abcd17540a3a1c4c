"""Tuning: the same learning rates for every arm, on seeds that nobody reports."""

from dataclasses import replace
from typing import Any

import pytest
from studies import Conduct, MakeStudy

from gptlab.compare import jobs
from gptlab.compare.arms import arms_of
from gptlab.compare.conduct import How
from gptlab.compare.report.contents import warnings
from gptlab.compare.study import Tuning
from gptlab.compare.tuning import Curve, Tuned, _grids, _wider, first_jobs
from gptlab.train.recipe import Recipe

OF_BOTH = (5e-4, 6.25e-4, 1e-3, 1.25e-3, 2e-3, 2.5e-3, 4e-3, 5e-3, 8e-3, 1e-2)


def test_a_sensible_learning_rate_is_found_on_other_seeds(study: MakeStudy, run: Conduct):
    """The base's own is far too small; what is reported is trained with what was chosen."""
    tuned = study(
        "optimizer.lr=1e-6",
        "train.steps=20",
        "train.evaluate_every=20",
        variants={"rope": ("model.positions=rotary",)},
        tune={"lr": [1e-4, 1e-2, 1e2], "extensions": 0},
    )
    results = run(tuned)
    assert [curve.variant for curve in results.tuning] == ["base", "rope"]
    for curve in results.tuning:
        assert curve.chosen == 1e-2
        assert not curve.edge
        assert [trial.value for trial in curve.trials] == [1e-4, 1e-2, 1e2]
        best = min(trial.results[0] for trial in curve.trials if trial.results[0] is not None)
        assert curve.trials[1].results == [best]
    assert set(results.tuning_seeds).isdisjoint(results.seeds)
    trials = [each for each in results.runs if each.role == "tuning"]
    reported = [each for each in results.runs if each.role == "report"]
    assert (len(trials), len(reported)) == (6, 4)
    assert {each.seed for each in trials} == set(results.tuning_seeds)
    untuned = run(tuned.but(tune=None, name="untuned"))
    for a, b in zip(reported, untuned.runs, strict=True):
        assert (a.metrics["bits_per_byte"] or 9) < (b.metrics["bits_per_byte"] or 9)


def fail_at(monkeypatch: pytest.MonkeyPatch, *rates: float) -> None:
    """Let runs of these learning rates fail for a reason of their own."""
    begin = jobs.begin

    def unlucky(recipe: Recipe, *rest: Any) -> object:
        if recipe.optimizer.lr in rates:
            raise OSError("no luck")
        return begin(recipe, *rest)

    monkeypatch.setattr(jobs, "begin", unlucky)


def test_a_trial_that_failed_is_neither_chosen_nor_the_worst(
    study: MakeStudy, run: Conduct, monkeypatch: pytest.MonkeyPatch
):
    """All others diverge, so that a failed one would win as the first of equals, or lose."""
    fail_at(monkeypatch, 1e-3)
    variants = {"rope": ("model.positions=rotary",)}
    asked = study(variants=variants, seeds=(0,), tune={"lr": [1e-3, 1e30, 1e31], "extensions": 0})
    results = run(asked)
    for curve in results.tuning:
        assert [trial.failed for trial in curve.trials] == [[10_000], [], []]
        assert [trial.results for trial in curve.trials] == [[], [None], [None]]
        assert (curve.chosen, curve.edge) == (1e30, True)
    assert "rope: optimizer.lr 0.001 failed (seed 10000) and was not chosen from" in results.notes
    states = {(each.role, each.state) for each in results.runs}
    assert states == {("tuning", "failed"), ("tuning", "diverged"), ("report", "diverged")}


def test_where_every_trial_failed_nothing_is_guessed(
    study: MakeStudy, run: Conduct, monkeypatch: pytest.MonkeyPatch
):
    fail_at(monkeypatch, 1e-3, 2e-3)
    with pytest.raises(ValueError, match="base: no learning rate could be tried") as mistake:
        run(study(seeds=(0,), tune={"lr": [1e-3, 2e-3]}))
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize("extensions", [0, 1])
def test_an_optimum_at_the_edge_extends_the_range_for_all(
    extensions: int, study: MakeStudy, run: Conduct
):
    results = run(
        study(
            seeds=(0,),
            variants={"rope": ("model.positions=rotary",)},
            tune=Tuning(lr=(1e-6, 2e-6), extensions=extensions),
        )
    )
    for curve in results.tuning:
        grid = [trial.value for trial in curve.trials]
        assert grid == pytest.approx([1e-6, 2e-6, 4e-6][: 2 + extensions])
        assert (curve.chosen, curve.edge) == (grid[-1], True)
        assert curve.extended == (extensions > 0)
    assert sum("at the edge" in warning for warning in warnings(results)) == 2


def test_a_range_that_two_arms_made_together_is_extended_by_the_step_of_one(study: MakeStudy):
    """The union is denser than either; its last two values say nothing of how far to go."""
    variants = {"fast": ("optimizer.lr=0.0025", "model.positions=rotary")}
    asked = study("optimizer.lr=0.002", variants=variants, tune={})
    assert asked.tune
    arms = arms_of(asked, lambda text: None)
    grids = _grids(asked.tune, arms)
    assert grids[0] == grids[1] == pytest.approx([*OF_BOTH])
    curve = Curve(variant="base", setting="lr", metric="bpb", trials=[], chosen=grids[0][-1])
    tuned = [Tuned(arms[0], curve, []), Tuned(arms[1], curve, [])]
    assert _wider(asked.tune, grids, tuned) == [[*grid, pytest.approx(0.02)] for grid in grids]
    low = replace(tuned[1], curve=curve.model_copy(update={"chosen": grids[1][0]}))
    both = _wider(asked.tune, grids, [tuned[0], low])
    assert both == [[pytest.approx(0.00025), *grid, pytest.approx(0.02)] for grid in grids]


def test_reporting_alone_cannot_guess_a_learning_rate(study: MakeStudy, run: Conduct, how: How):
    report = How(how.root, how.studies, report_only=True)
    with pytest.raises(ValueError, match="runs of tuning have not ended"):
        run(study(tune={}), report)


def test_another_optimizer_is_tuned_around_its_own_learning_rate(study: MakeStudy):
    asked = study(variants={"muon": ("optimizer=muon",)}, tune={})
    assert asked.tune
    arms = arms_of(asked, lambda text: None)
    tried: dict[str, list[float]] = {}
    for job in first_jobs(asked, asked.tune, arms):
        tried.setdefault(job.arm.name, []).append(job.recipe.optimizer.lr)
    for arm in arms:
        own = arm.recipe.optimizer.lr
        assert tried[arm.name] == [own / 4, own / 2, own, 2 * own, 4 * own]
    assert tried["base"] != tried["muon"]


def test_what_tuning_chooses_cannot_be_a_variant(study: MakeStudy):
    asked = study(variants={"fast": ("optimizer.lr=1",)}, tune={})
    assert asked.tune
    arms = arms_of(asked, lambda text: None)
    with pytest.raises(ValueError, match=r"fast and base differ in optimizer\.lr alone"):
        first_jobs(asked, asked.tune, arms)
