"""What may be said of ratios."""

import math

import numpy as np
import pytest

from gptlab.bench.protocol import Round
from gptlab.bench.ratios import noise, paired, ratio_of


def rounds_of(ours: list[float], other: list[float]) -> list[Round]:
    return [Round({"ours": [a], "other": [b]}) for a, b in zip(ours, other, strict=True)]


def test_the_ratio_of_a_round_is_that_of_geometric_means():
    each = Round({"ours": [8.0, 2.0], "other": [1.0, 4.0]})
    assert paired([each], "ours", "other") == [pytest.approx(math.log(2.0))]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """A bootstrap of eleven is somewhat too sure of itself; a broken one is far off."""
    draw = np.random.default_rng(0)
    found = [ratio_of(list(draw.normal(math.log(1.5), 0.05, 11))) for _ in range(60)]
    covered = sum(each.low <= 1.5 <= each.high for each in found)
    assert 50 <= covered <= 60


def test_the_sign_test_counts_wins():
    logs = [0.1] * 7
    assert ratio_of(logs).p == pytest.approx(2 * 0.5**7)
    assert ratio_of([*logs[:6], -0.1]).p == pytest.approx(2 * 8 * 0.5**7)
    assert ratio_of([0.0, 0.0]).p == 1.0


def test_a_claim_is_rounded_down_from_the_lower_end():
    ratio = ratio_of([math.log(x) for x in (2.47, 2.48, 2.5, 2.5, 2.52, 2.53, 2.55)])
    assert 2.47 <= ratio.low < 2.5
    assert ratio.claim(0.01) == pytest.approx(2.4)


def test_nothing_is_claimed_that_may_be_noise_or_luck():
    logs = [math.log(x) for x in (1.08, 1.09, 1.1, 1.1, 1.1, 1.12, 1.13)]
    assert ratio_of(logs).claim(0.02) == pytest.approx(1.0, abs=0.1)
    assert ratio_of(logs).claim(0.06) is None
    assert ratio_of(logs[:4]).claim(0.0) is None
    assert ratio_of([-x for x in logs]).claim(0.0) is None


def test_a_run_that_never_gets_there_is_infinitely_slow():
    never = rounds_of([1.0] * 3, [0.0, 0.5, 0.0])
    ratio = ratio_of(paired(never, "ours", "other"))
    assert ratio.median == math.inf
    assert ratio.low == pytest.approx(2.0)


def test_noise_is_how_far_the_control_reaches():
    control = ratio_of([math.log(x) for x in (0.9, 1.0, 1.0, 1.0, 1.05)])
    assert noise(control) == pytest.approx(-math.log(0.9))
