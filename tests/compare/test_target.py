"""When a curve first comes down to a target."""

import pytest

from gptlab.compare.target import first_reach


@pytest.mark.parametrize(
    ("target", "steps"),
    [(3.5, 100), (4.0, 100), (2.0, 250), (1.5, 300), (0.9, None)],
)
def test_between_evaluations_the_curve_is_straight(target, steps):
    assert first_reach([100, 200, 300, 400], [3.5, 2.5, 1.5, 1.0], target) == steps


def test_the_first_time_counts_and_gaps_are_passed_over():
    assert first_reach([1, 2, 3, 4, 5], [3.0, None, 1.0, 5.0, 1.0], 2.0) == 2.0
    assert first_reach([1, 2, 3], [3.0, float("nan"), 2.5], 2.0) is None
    assert first_reach([], [], 2.0) is None
