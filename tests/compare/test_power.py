"""How many seeds an effect needs, against simulation and published tables."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gptlab.compare.power import MOST_SEEDS, power_of, seeds_needed, smallest_effect


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_of_the_usual_tables(effect, seeds):
    """Cohen's d of pairs, two-sided at 5% with 80%: as G*Power has it."""
    assert seeds_needed(effect, sd=1.0) == seeds


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 8])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_effect_is_found_as_often_as_promised(n, alpha):
    rng = np.random.default_rng(n)
    effect = smallest_effect(n, 2.0, alpha)
    pairs = rng.normal(effect, 2.0, size=(20_000, n))
    found: Any = stats.ttest_1samp(pairs, 0.0, axis=1)
    assert np.mean((found.pvalue <= alpha) & (found.statistic > 0)) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 40, 2_000])
def test_power_is_that_of_the_noncentral_t(n):
    for alpha in (0.05, 0.0025):
        for effect in (0.0, 0.02, 0.5, 2.0):
            critical = float(stats.t.isf(alpha / 2, n - 1))
            exact = float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))
            assert power_of(n, effect, 1.0, alpha) == pytest.approx(exact, abs=1e-5)


def test_it_is_known_where_scipy_gives_up():
    """Two pairs at a late look: t with one degree of freedom is a ratio of two normal numbers."""
    alpha = 0.05 * 0.8 / 1_000
    effect = smallest_effect(2, 1.0, alpha)
    critical = float(stats.t.isf(alpha / 2, 1))
    z = np.random.default_rng(0).normal(size=(2, 100_000))
    found = (effect * math.sqrt(2) + z[0]) / np.abs(z[1]) > critical
    assert np.mean(found) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("effect", [0.03, 0.11, 0.5, 3.0, 40.0])
def test_needed_seeds_are_the_fewest_that_do(effect):
    n = seeds_needed(effect, 1.0)
    assert n is not None
    assert power_of(n, effect, 1.0) >= 0.8
    assert n == 2 or power_of(n - 1, effect, 1.0) < 0.8
    assert seeds_needed(-effect, 1.0) == n


def test_what_cannot_be_found():
    assert smallest_effect(1, 1.0) == math.inf
    assert seeds_needed(1e-6, 1.0) is None
    assert smallest_effect(MOST_SEEDS, 1.0) < 0.03
