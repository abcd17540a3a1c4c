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


@pytest.mark.parametrize("effect", [0.11, 0.5, 3.0, 40.0])
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
