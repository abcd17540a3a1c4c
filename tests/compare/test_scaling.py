"""Curves over sizes give back the numbers that they were made from, or refuse."""

import numpy as np
import pytest
from scipy import stats

from gptlab.compare.scaling import fit, trend

SIZES = np.repeat(np.geomspace(1e6, 3e8, 6), 3)
RNG = np.random.default_rng(0)


def losses(noise=0.002, rng=RNG):
    return (1.7 + 400 * SIZES**-0.34) * np.exp(noise * rng.normal(size=len(SIZES)))


def test_without_noise_the_numbers_are_those_it_was_made_from():
    found = fit([SIZES], losses(0.0), resamples=2)
    numbers = found.floor.value, found.factors[0].value, found.exponents[0].value
    assert numbers == pytest.approx((1.7, 400, 0.34), rel=1e-5)
    assert found.at(1e10) == pytest.approx(1.7 + 400 * 1e10**-0.34)


def test_two_amounts_at_once():
    n, d = map(np.ravel, np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(1e8, 3e10, 5)))
    clean = 1.69 + 406 * n**-0.34 + 410 * d**-0.28
    found = fit([n, d], clean * np.exp(0.002 * RNG.normal(size=len(n))), resamples=20)
    assert [x.value for x in found.exponents] == pytest.approx([0.34, 0.28], abs=0.03)
    assert found.at(1e8, 1e10) == pytest.approx(
        1.69 + 406 * 1e8**-0.34 + 410 * 1e10**-0.28, rel=0.005
    )


def test_one_run_that_went_wrong_moves_little():
    noisy = losses()
    without = fit([SIZES], noisy, resamples=2).exponents[0].value
    noisy[4] *= 1.5
    assert fit([SIZES], noisy, resamples=2).exponents[0].value == pytest.approx(without, abs=0.02)


def test_intervals_hold_the_truth():
    """Nineteen of twenty do; of thirty, fewer than 25 would be one case in two hundred."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(30):
        exponent = fit([SIZES], losses(rng=rng), resamples=60).exponents[0]
        hits += exponent.low <= 0.34 <= exponent.high
    assert hits >= 25


@pytest.mark.parametrize("sizes", [[1e6, 1e7, 1e8], [1e6, 2e6, 3e6, 4e6, 5e6]])
def test_too_few_sizes_or_too_near_are_refused(sizes):
    with pytest.raises(ValueError, match=f"over {len(sizes)} sizes that span a factor of .* guess"):
        fit([sizes], [2.0] * len(sizes))


def test_a_run_for_each_number_is_too_few():
    n, d = np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e10, 5)
    with pytest.raises(ValueError, match="5 runs are too few for a curve of 5 numbers"):
        fit([n, d], [2.0] * 5)


def test_a_gain_that_shrinks_is_told_from_one_that_lasts():
    def gains(slope):
        return {
            size: {seed: -0.05 + slope * i + 0.002 * RNG.normal() for seed in range(5)}
            for i, size in enumerate((1e6, 1e7, 1e8))
        }

    shrinks, lasts = trend(gains(0.01)), trend(gains(0.0))
    assert shrinks is not None
    assert lasts is not None
    assert shrinks[0].low < 0.01 < shrinks[0].high
    assert shrinks[1] < 0.01
    assert lasts[0].low < 0.0 < lasts[0].high


def test_slopes_are_those_of_a_line_through_every_seed():
    found = trend({10: {0: 1.0, 1: 2.0}, 1_000: {0: 3.0, 1: 2.0, 7: 9.0}})
    assert found is not None
    assert found[0].value == pytest.approx((1.0 + 0.0) / 2)
    assert found[1] == pytest.approx(stats.ttest_1samp([1.0, 0.0], 0.0)[1])


def test_a_trend_needs_two_sizes_and_two_seeds():
    assert trend({1e6: {0: 1.0, 1: 1.0}}) is None
    assert trend({1e6: {0: 1.0, 1: 1.0}, 1e7: {1: 1.0}}) is None


def test_false_trends_are_as_rare_as_promised():
    rng = np.random.default_rng(2)
    found = [
        trend({s: dict(enumerate(rng.normal(0, s**-0.3, size=4))) for s in (1e2, 1e3, 1e4)})
        for _ in range(2_000)
    ]
    assert 0.035 < np.mean([x is not None and x[1] <= 0.05 for x in found]) < 0.065
