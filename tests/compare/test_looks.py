"""Looks: what is counted as one, and that all of them together find as little as promised."""

import json

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from studies import Conduct, MakeStudy

from gptlab.compare import conduct
from gptlab.compare.conduct import How
from gptlab.compare.looks import Look, Looks, share

BASE, NEW = {0: 2.0, 1: 2.1, 2: 2.2}, {0: 1.9, 1: 2.0, 2: None}


def take(looks, base=BASE, new=NEW, **others):
    return looks.take("bpb", "", "base", {"base": base, "new": new, **others})


def first(arm, n):
    return {seed: arm[seed] for seed in range(n)}


def test_other_results_are_another_look_and_the_same_are_the_same(tmp_path):
    looks = Looks.load(tmp_path)
    assert take(looks, first(BASE, 2), first(NEW, 2)) == Look(1, 2)
    assert take(looks) == Look(2, 3)
    looks.save(tmp_path)
    looks = Looks.load(tmp_path)
    assert take(looks) == Look(2, 3)
    assert take(looks, first(BASE, 2), first(NEW, 2)) == Look(1, 3)
    assert take(looks, new={**NEW, 2: 2.0}).number == 3  # run again, to another end
    assert take(looks, more=NEW).number == 4  # a variant that was thought of later
    assert looks.take("val_loss", "", "base", {"base": BASE, "new": NEW}).number == 2
    others = {"base": BASE, "new": {**NEW, 1: 2.5}}  # of a metric that was seen, they are new
    assert looks.take("val_loss", "", "base", others).number == 3
    assert looks.take("val_loss", "", "base", {**others, "new": {**NEW, 1: 3}}).number == 5
    assert looks.take("bpb", "small", "base", {"base": BASE, "new": NEW}).number == 1


def test_without_a_second_run_there_is_nothing_to_count():
    looks = Looks()
    assert take(looks, first(BASE, 1), first(NEW, 1)) == Look(1, 1)
    assert take(looks, BASE, {}) == Look(1, 1)
    assert take(looks, BASE, first(NEW, 1), other=NEW) == Look(1, 2)
    assert looks.looks[0].seeds == {"base": [0, 1, 2], "other": [0, 1, 2]}
    assert take(looks, {0: 2.0, 2: 2.1}, {0: 1.9, 2: 2.0}).left_out == {"base": [1]}


def test_seeds_that_were_chosen_one_by_one_are_named():
    looks = Looks()
    for seed in BASE:
        take(looks, {seed: BASE[seed]}, {seed: NEW[seed]})
    assert take(looks, first(BASE, 2), first(NEW, 2)) == Look(1, 2, {"base": [2], "new": [2]})


def test_seeds_that_are_left_out_after_a_look_are_named():
    looks = Looks()
    take(looks)
    assert take(looks, first(BASE, 2), first(NEW, 2)).left_out == {"base": [2], "new": [2]}
    assert take(looks).left_out == {}


def test_a_damaged_file_is_said_in_a_line(tmp_path):
    (tmp_path / "looks.json").write_text('{"looks": [{"scale": 1}]}')
    with pytest.raises(ValueError, match=r"looks\.json: looks: 0: scale: Input should") as caught:
        Looks.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_study_counts_its_looks(study: MakeStudy, run: Conduct, how: How):
    asked = study(seeds=(0, 1, 2))
    file = how.folder(asked) / "looks.json"
    whole, again = run(asked), run(asked)
    report = How(how.root, how.studies, report_only=True)
    assert whole.comparisons == again.comparisons == run(asked, report).comparisons
    assert {(x.look, round(x.alpha, 9)) for x in whole.comparisons} == {(1, 0.04)}
    assert len(json.loads(file.read_text())["looks"]) == 1
    assert "where look 1 asks for 0.04" in whole.comparisons[0].text
    more = run(study(seeds=(0, 1, 2, 3)))
    assert {(x.look, round(x.alpha, 9)) for x in more.comparisons} == {(2, 0.0025)}
    assert "where look 2 asks for 0.0025" in more.comparisons[0].text
    fewer = run(study(seeds=(1, 2, 3)))
    assert {x.look for x in fewer.comparisons} == {3}
    assert "base: seed 0 was judged before and is left out; choosing among" in " ".join(fewer.notes)


def test_a_look_of_another_process_is_not_lost(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    """While one of them reads its runs, the other judges more seeds."""
    collect = conduct.collect

    def late(*arguments):
        monkeypatch.setattr(conduct, "collect", collect)
        run(study(seeds=(0, 1, 2)))
        return collect(*arguments)

    monkeypatch.setattr(conduct, "collect", late)
    assert {x.look for x in run(study()).comparisons} == {2}
    looks = Looks.load(how.folder(study())).looks
    assert [seen.seeds["base"] for seen in looks] == [[0, 1, 2], [0, 1]]


def test_looks_that_cannot_be_read_are_said_before_anything_is_run(
    study: MakeStudy, run: Conduct, how: How
):
    how.folder(study()).mkdir(parents=True)
    (how.folder(study()) / "looks.json").write_text("{")
    with pytest.raises(ValueError, match=r"looks\.json"):
        run(study())
    assert not how.root.exists()


def test_the_study_goes_on_after_one_seed_as_if_for_the_first_time(study: MakeStudy, run: Conduct):
    assert {x.look for x in run(study(seeds=(0,))).comparisons} == {1}
    assert {x.look for x in run(study(seeds=(0, 1))).comparisons} == {1}


def test_what_all_looks_may_spend():
    assert [share(look) for look in (1, 2, 3, 4)] == pytest.approx([0.8, 0.05, 0.0125, 0.005])
    assert sum(map(share, range(1, 10_000))) == pytest.approx(0.875)


def worst(spent, alpha, looks):
    """Compute how often the worst way to choose further seeds errs, of normal noise.

    Backwards over the looks: after each, by how large the difference is now in standard errors,
    the factor by which to multiply the seeds that promises most. Nobody goes on after a finding.
    """
    bounds = [-ndtri(alpha * spent(look) / 2) for look in range(1, looks + 1)]
    factors = 1 + np.geomspace(5e-4, 400, 60)
    steps = np.linspace(-5.5, 5.5, 61)
    weights = np.exp(-(steps**2) / 2) / np.exp(-(steps**2) / 2).sum()
    known, promise = np.linspace(0, bounds[-1], 300), np.zeros(300)
    for look in range(looks - 1, 0, -1):
        bound, now = bounds[look], np.linspace(0, bounds[look - 1], 300)
        best = np.zeros(300)
        for factor in factors:
            middle, spread = now / factor**0.5, (1 - 1 / factor) ** 0.5
            found = ndtr((middle - bound) / spread) + ndtr((-middle - bound) / spread)
            then = np.abs(middle[:, None] + spread * steps)
            later = np.where(then < bound, np.interp(then, known, promise), 0.0) @ weights
            best = np.maximum(best, found + later)
        known, promise = now, best
    z = np.linspace(-bounds[0], bounds[0], 2_001)
    density = np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
    return alpha * spent(1) + np.trapezoid(np.interp(np.abs(z), known, promise) * density, z)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 30])
def test_the_worst_choice_of_further_seeds_errs_no_more_often_than_promised(alpha):
    assert worst(share, alpha, looks=12) < alpha


def test_a_sum_of_alpha_alone_would_not_do():
    """Spend all of it on the looks, and who chooses by what was seen errs more often."""
    assert worst(lambda look: 0.8 if look == 1 else 0.2 / (look * (look - 1)), 0.05, 8) > 0.053
