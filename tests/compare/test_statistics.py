"""Estimates against scipy's own tests, and what is done where a mean would be a lie."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from gptlab.compare.statistics import estimate, holm, median, rank_test

RNG = np.random.default_rng(0)
BASE = dict(enumerate(RNG.normal(2.0, 0.1, size=6).tolist()))
VARIANT = {seed: x + 0.1 + 0.05 * RNG.normal() for seed, x in BASE.items()}
ELSEWHERE = {seed + 10: x for seed, x in VARIANT.items()}


def values(arm):
    return list(arm.values())


def test_pairs_are_those_of_scipy():
    theirs = stats.ttest_rel(values(VARIANT), values(BASE))
    ours = estimate(BASE, VARIANT)
    assert ours.method == "paired t"
    assert ours.p == pytest.approx(theirs.pvalue)
    for confidence in (0.9, 0.95, 0.99):
        assert ours.interval(confidence) == pytest.approx(
            tuple(theirs.confidence_interval(confidence))
        )


def test_seeds_are_paired_by_their_number_and_not_by_their_place():
    turned = dict(reversed(VARIANT.items()))
    assert estimate(BASE, turned) == estimate(BASE, VARIANT)


def test_arms_of_other_seeds_are_independent_as_in_scipy():
    fewer = {seed: ELSEWHERE[seed] for seed in list(ELSEWHERE)[:4]}
    theirs: Any = stats.ttest_ind(values(fewer), values(BASE), equal_var=False)
    ours = estimate(BASE, fewer)
    assert ours.method == "Welch's t"
    assert (ours.p, ours.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert ours.interval(0.95) == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize(("shared", "method"), [(3, "paired t"), (2, "Welch's t")])
def test_half_of_the_seeds_must_be_common_for_pairs(shared, method):
    kept = dict(list(VARIANT.items())[:shared])
    assert estimate(BASE, kept).method == method


def test_what_has_the_seeds_of_the_pairs_only_decides_the_pairs():
    kept = {seed: VARIANT[seed] for seed in range(4)}
    theirs = stats.ttest_rel(values(kept), values(BASE)[:4])
    assert estimate(BASE, kept).p == pytest.approx(theirs.pvalue)


def test_one_seed_gives_a_difference_and_nothing_else():
    found = estimate(BASE, {2: 1.5})
    assert (found.method, found.p, found.interval(0.95)) == ("one seed", None, None)
    assert found.difference == pytest.approx(1.5 - BASE[2])


def test_no_runs_give_nothing():
    found = estimate(BASE, {})
    assert (found.method, found.difference, found.p) == ("none", None, None)


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_lost_runs_are_worst_and_never_averaged(better):
    lost = estimate(BASE, dict.fromkeys(BASE), better)
    assert (lost.method, lost.difference, lost.interval(0.95)) == ("ranks", None, None)
    assert lost.p == pytest.approx(2 / 924)  # one arrangement of 12 runs, and its opposite
    assert lost.improved is False
    assert estimate(dict.fromkeys(BASE), BASE, better).improved is True
    one = estimate(BASE, {**BASE, 0: None}, better)
    assert one.p is not None
    assert one.p > 0.5


def test_ranks_are_those_of_scipy_where_there_are_no_ties():
    theirs = stats.mannwhitneyu(values(BASE), values(VARIANT), method="exact")
    p, improved = rank_test(values(BASE), values(VARIANT), "lower")
    assert p == pytest.approx(theirs.pvalue)
    assert improved is False
    assert rank_test(values(BASE), values(VARIANT), "higher") == (pytest.approx(p), True)


def test_many_ranks_are_tested_by_the_normal_distribution():
    x, y = RNG.normal(size=40).tolist(), RNG.normal(0.5, size=40).tolist()
    theirs = stats.mannwhitneyu(x, y, method="asymptotic")
    assert rank_test(x, y, "lower")[0] == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("shift", [0.0, 1 / 3])
def test_equal_differences_are_no_certainty(shift):
    """Steps to a target often differ by the same: a t would divide by nothing, or by rounding."""
    found = estimate(BASE, {seed: x + shift for seed, x in BASE.items()})
    assert found.method == "ranks"
    assert found.p == (1.0 if shift == 0 else pytest.approx(2 / 924))
    assert found.difference == pytest.approx(shift)


def test_a_median_is_lost_where_half_of_the_runs_are():
    assert median([3.0, None, 1.0], "lower") == 3.0
    assert median([3.0, None, 1.0], "higher") == 1.0
    assert median([3.0, None, None], "lower") is None
    assert median([3.0, None], "lower") is None


def test_holm_as_he_wrote_it():
    """His rule, written plainly: by size, each against alpha over those left, until one fails."""
    for p in RNG.uniform(0, 0.1, size=(200, 6)):
        rejected = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (len(p) - step):
                break
            rejected.add(int(i))
        assert {i for i, x in enumerate(holm(p.tolist())) if x <= 0.05} == rejected
    assert holm([]) == []
    assert holm([0.04, 0.01, 0.6]) == pytest.approx([0.08, 0.03, 0.6])
