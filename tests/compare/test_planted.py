"""Whole studies of what is known beforehand: a real gain, a confound, and what is none of both."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from studies import Conduct, MakeStudy

from gptlab.compare import jobs
from gptlab.compare.identity import noted
from gptlab.compare.study import Study
from gptlab.train.recipe import Recipe

SILLY, SENSIBLE = "optimizer.lr=1e-6", "optimizer.lr=1e-2"
OF_NO_EFFECT = "model.norm.eps=1.00001e-5"
CONFOUNDS = {
    "another seed of data": ("seed=9", {"seed"}),
    "another evaluation": (
        "data.val_fraction=0.2",
        {"data.val_fraction", "data_sha256", "val_bytes"},
    ),
    "another precision": ("train.precision=bf16", {"train.precision", "precision"}),
}


@pytest.fixture
def planted(study: MakeStudy) -> Callable[..., Study]:
    """A base whose learning rate is silly, and a variant whose own is all that it has to offer."""

    def make(**changes: Any) -> Study:
        settings = (SILLY, "train.steps=30", "train.evaluate_every=30")
        variants = {"sensible": (SENSIBLE, OF_NO_EFFECT)}
        return study(*settings, variants=variants, seeds=(0, 1, 2), **changes)

    return make


def test_a_planted_gain_is_found(planted: Callable[..., Study], run: Conduct):
    (found,) = run(planted()).comparisons
    assert found.verdict == "better"
    assert found.method == "paired t"
    assert found.difference is not None
    assert found.difference < -0.1


@pytest.mark.parametrize(
    "tune", [{"lr": [1e-6, 1e-4, 1e-2, 1.0]}, {}], ids=["named", "by the arms' own"]
)
def test_tuning_leaves_nothing_of_a_gain_that_is_a_learning_rate(
    tune: dict[str, Any], planted: Callable[..., Study], run: Conduct
):
    results = run(planted(tune=tune))
    base, sensible = results.tuning
    assert [trial.value for trial in base.trials] == [trial.value for trial in sensible.trials]
    assert base.chosen == sensible.chosen
    assert base.chosen > 1e-3
    (found,) = results.comparisons
    assert found.verdict == "no difference"
    assert found.difference == pytest.approx(0.0, abs=1e-3)
    tried = {trial.value: trial.results[0] or 9 for trial in base.trials}
    assert tried[base.chosen] < tried[1e-6] - 0.1


@pytest.mark.parametrize("name", CONFOUNDS)
def test_a_planted_confound_is_not_comparable(
    name: str, study: MakeStudy, run: Conduct, monkeypatch: pytest.MonkeyPatch
):
    """Runs of one arm are not what they are meant to be, and their seals are believed."""
    change, expected = CONFOUNDS[name]
    perform = jobs.perform

    def other(task: jobs.Task, say: Any) -> jobs.Ended:
        recipe = Recipe.from_yaml(task.recipe)
        if task.name.startswith("rope-s1"):
            recipe = recipe.override([change])
        return perform(replace(task, recipe=recipe.to_yaml()), say)

    asked = study(seeds=(0, 1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "perform", other)
        patch.setattr(jobs, "sealed", lambda run, *expected: noted(run))
        results = run(asked)
    verdicts = {each.variant: each for each in results.comparisons}
    assert verdicts["rope"].verdict == "not comparable"
    assert all(what in verdicts["rope"].text for what in expected)
    assert (verdicts["rope"].p, verdicts["rope"].difference) == (None, None)
    assert verdicts["swiglu"].verdict != "not comparable"
    assert verdicts["swiglu"].family == 1
    refused = {each.what for each in results.findings if each.severity == "refuses"}
    assert refused == expected
    with pytest.raises(ValueError, match=r"rope-s1-.*config\.yaml was changed by hand"):
        run(asked)  # whose seals are looked at
