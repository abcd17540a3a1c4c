"""Simulated studies: as few false verdicts as promised, and what is true is found.

Each is repeated with the very mistake that the method avoids, which must break the promise.
"""

import numpy as np
import pytest
from scipy import special

from gptlab.compare import statistics, verdict
from gptlab.compare.looks import Looks
from gptlab.compare.power import smallest_effect
from gptlab.compare.results import Metric
from gptlab.compare.statistics import estimate
from gptlab.compare.verdict import compare

MARGIN = 0.02
LOSS = Metric(name="bpb", title="bits per byte", margin=MARGIN)
SHARP = LOSS.model_copy(update={"margin": 0.005})
COMMON, OWN = 0.03, 0.01  # of the noise, what the runs of a seed share and what they do not
PAIR = OWN * 2**0.5
SEEDS = 5


def arms(rng, effects, n=SEEDS, lost=0.0):
    """Simulate a study: a base, a variant for each effect; runs are lost at random."""
    shared = rng.normal(2.0, COMMON, size=n)
    runs = [shared + effect + rng.normal(0.0, OWN, size=n) for effect in (0.0, *effects)]
    return {
        f"arm{i}": {s: None if rng.random() < lost else float(x) for s, x in enumerate(run)}
        for i, run in enumerate(runs)
    }


def studies(number, effects, **options):
    rng = np.random.default_rng(0)
    return [compare(LOSS, "arm0", arms(rng, effects, **options)) for _ in range(number)]


def share(found, *verdicts):
    """Count the studies in which any variant has one of these verdicts."""
    return np.mean([any(x.verdict in verdicts for x in study) for study in found])


def at_most(promised, number):
    """Allow for the luck of that many studies: 2.6 standard deviations, one in 200."""
    return promised + 2.6 * (promised * (1 - promised) / number) ** 0.5


@pytest.mark.parametrize("variants", [1, 8])
def test_identical_arms_are_rarely_told_apart(variants):
    found = studies(1_500, [0.0] * variants)
    assert share(found, "better", "worse") <= at_most(0.05, 1_500)


def test_without_holm_they_often_would_be(monkeypatch):
    monkeypatch.setattr(verdict, "holm", lambda p_values: p_values)
    assert share(studies(200, [0.0] * 8), "better", "worse") > 0.15


def test_identical_arms_that_lose_runs_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    pairs = [arms(rng, [0.0], lost=0.3) for _ in range(800)]
    found = [estimate(pair["arm0"], pair["arm1"]) for pair in pairs]
    assert np.mean([x.p is not None and x.p <= 0.05 for x in found]) <= at_most(0.05, 800)
    assert {x.method for x in found} == {"ranks", "paired t"}


def as_advised(found):
    return found.more_seeds or 1_000


def one_by_one(found):
    return 1


def ever_told_apart(number, add, most):
    """Count the studies of identical arms that tell them apart as seeds are added until they do."""
    rng, told = np.random.default_rng(0), 0
    for runs in [arms(rng, [0.0], n=most) for _ in range(number)]:
        kept, n, is_open = Looks(), SEEDS, True
        while is_open:
            now = {name: {seed: arm[seed] for seed in range(n)} for name, arm in runs.items()}
            look = kept.take(LOSS.name, "", "arm0", now)
            (found,) = compare(SHARP, "arm0", now, look=look)
            told += found.verdict in ("better", "worse")
            is_open = found.verdict == "not resolved" and n < most
            n = min(n + add(found), most)
    return told / number


@pytest.mark.parametrize(("add", "most"), [(as_advised, 60), (one_by_one, 20)])
def test_adding_seeds_until_there_is_a_verdict_finds_no_more(add, most):
    assert ever_told_apart(200, add, most) <= at_most(0.05, 200)


def test_without_counting_looks_it_would(monkeypatch):
    monkeypatch.setattr(verdict, "share", lambda look: 1.0)
    assert ever_told_apart(100, one_by_one, 20) > 0.12


def test_effects_among_variants_that_do_nothing_protect_them_all_the_same():
    found = studies(1_000, [0.5, 0.5, 0.0, 0.0])
    assert share([study[2:] for study in found], "better", "worse") <= at_most(0.05, 1_000)


@pytest.mark.parametrize("variants", [1, 8])
def test_a_true_effect_is_found_as_often_as_promised(variants):
    effect = smallest_effect(SEEDS, PAIR, 0.04 / variants)
    found = studies(500, [-effect] + [0.0] * (variants - 1))
    power = np.mean([study[0].verdict == "better" for study in found])
    assert power == pytest.approx(0.8, abs=0.05)


def test_unpaired_it_would_be_missed(monkeypatch):
    unpaired = statistics._welch
    monkeypatch.setattr(statistics, "_paired", unpaired)
    found = studies(200, [-smallest_effect(SEEDS, PAIR)])
    assert share(found, "better") < 0.4


def test_no_difference_is_rarely_said_of_one_as_large_as_the_margin():
    assert share(studies(600, [MARGIN], n=6), "no difference") <= at_most(0.05, 600)
    family = studies(200, [MARGIN] * 8, n=12)
    assert share(family, "no difference") <= at_most(0.05, 200)


def test_no_difference_is_said_where_there_is_none():
    assert share(studies(100, [0.0], n=12), "no difference") > 0.85


def coverage(number, simulate):
    """Count how often the interval of one comparison holds the true difference."""
    rng = np.random.default_rng(1)
    ends = [estimate(*simulate(rng)).interval(0.95) for _ in range(number)]
    return np.mean([pair is not None and pair[0] <= 0.01 <= pair[1] for pair in ends])


def paired(rng):
    return tuple(arms(rng, [0.01]).values())


def independent(rng):
    """Simulate arms of other seeds, of which one varies twice as much."""
    runs = rng.normal(2.0, 0.02, size=6), rng.normal(2.01, 0.04, size=9)
    return tuple(dict(enumerate(run.tolist(), start=10 * len(run))) for run in runs)


@pytest.mark.parametrize("simulate", [paired, independent])
def test_intervals_hold_as_often_as_they_say(simulate):
    assert 0.94 < coverage(5_000, simulate) < 0.96


def test_with_the_normal_distribution_they_would_not(monkeypatch):
    monkeypatch.setattr(special, "stdtrit", lambda freedom, share: special.ndtri(share))
    assert coverage(1_000, paired) < 0.91


def within(found, effect):
    return found.family_low <= effect <= found.family_high


def test_the_wide_intervals_hold_all_at_once():
    effects = [0.0, 0.01, 0.02, 0.03, 0.04, -0.01, -0.02, 0.2]
    hold = [
        all(within(x, effect) for x, effect in zip(study, effects, strict=True))
        for study in studies(400, effects)
    ]
    assert np.mean(hold) >= 1 - at_most(0.05, 400)
