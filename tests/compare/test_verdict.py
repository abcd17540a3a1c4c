"""Every verdict and its sentence, from arms of which it is known what must be said."""

import math

import numpy as np
import pytest

from gptlab.compare import noise
from gptlab.compare.looks import Look
from gptlab.compare.results import Metric
from gptlab.compare.verdict import compare, with_margin

LOSS = Metric(name="bpb", title="bits per byte", unit="bits/byte", margin=0.01)
TIME = Metric(name="time", title="time", unit="s", scale="ratio", margin=1.05)
PATTERN = np.array([0.3, -1.1, 0.9, -0.4, 0.2, 0.1])  # mean 0, standard deviation 0.68
BASE = dict(enumerate((2.0 + 0.02 * PATTERN[::-1]).tolist()))


def moved(difference, sd, base=BASE):
    """Give every seed the base's value plus what makes the differences have this mean and sd."""
    noise = sd * PATTERN / PATTERN.std(ddof=1)
    return {seed: x + difference + e for (seed, x), e in zip(base.items(), noise, strict=True)}


def only(arm, metric=LOSS, base=BASE, **options):
    return compare(metric, "base", {"base": base, "new": arm}, **options)[0]


@pytest.mark.parametrize(
    ("difference", "sd", "verdict", "begins"),
    [
        (-0.05, 0.01, "better", "better: −0.050 bits/byte (95% interval −0.060 to −0.040, p"),
        (0.05, 0.01, "worse", "worse: +0.050 bits/byte (95% interval +0.040 to +0.060, p"),
        (0.002, 0.004, "no difference", "no difference larger than 0.01 bits/byte: +0.0020"),
        (0.02, 0.04, "not resolved", "not resolved: about 59 more seeds needed (+0.020 bits"),
    ],
)
def test_a_verdict_and_its_sentence(difference, sd, verdict, begins):
    found = only(moved(difference, sd))
    assert found.verdict == verdict
    assert found.text.startswith(begins)


def test_a_difference_that_is_sure_and_surely_small_is_no_improvement():
    found = only(moved(-0.005, 0.001))
    assert found.p_adjusted is not None
    assert found.p_adjusted < 0.001
    assert found.verdict == "no difference"
    assert "; p < 0.001 where look" in found.text
    assert found.text.endswith(", but too small to matter)")


def test_a_margin_of_noise_alone_does_not_make_a_sure_difference_small():
    """More seeds would else take back what fewer had found."""
    noisy = {seed: x + 0.1 * (-1) ** seed for seed, x in BASE.items()}
    floor = noise.measure("tiny", "abc", [], {"bpb": list(noisy.values())}, [LOSS])
    metric = with_margin(LOSS.model_copy(update={"margin": None}), noisy, floor)
    found = only(moved(-0.02, 0.005, noisy), metric, noisy, noise=floor)
    assert found.family_low is not None
    assert found.family_low > -floor.metrics["bpb"].sd
    assert found.verdict == "better"
    assert found.text.endswith("; less than the margin)")
    same = only(moved(0.001, 0.005, noisy), metric, noisy, noise=floor)
    assert same.verdict == "no difference"


def test_the_smallest_effect_is_one_that_matters():
    sharp = moved(-0.05, 0.001)
    assert only(sharp).smallest_effect == 0.01
    strict = only(sharp, LOSS.model_copy(update={"margin": 0.0001}))
    assert strict.smallest_effect is not None
    assert strict.smallest_effect < 0.01


def test_a_difference_that_may_be_small_is_said_to_be():
    found = only(moved(-0.009, 0.003))
    assert found.verdict == "better"
    assert found.text.endswith("; less than the margin)")


def test_better_is_more_where_more_is_better():
    speed = LOSS.model_copy(update={"better": "higher"})
    assert only(moved(0.05, 0.01), speed).verdict == "better"
    assert only(moved(-0.05, 0.01), speed).verdict == "worse"


def test_ratios_are_compared_as_factors():
    base = {seed: 100 * x for seed, x in BASE.items()}
    logs = {seed: math.log(x) for seed, x in base.items()}
    found = only({s: math.exp(x) for s, x in moved(math.log(0.8), 0.01, logs).items()}, TIME, base)
    assert found.difference == pytest.approx(0.8)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(0.8**2)
    assert found.verdict == "better"
    assert found.text.startswith("better: −20.00% (95% interval −20.84% to −19.16%, p < 0.001")
    same = only({s: math.exp(x) for s, x in moved(0.0, 0.01, logs).items()}, TIME, base)
    assert same.text.startswith("no difference larger than 5%: ")


def test_as_many_seeds_as_are_asked_for_are_enough():
    """Take the study at its word: with k more seeds of the same kind there is a verdict."""
    rng = np.random.default_rng(0)
    more = only(moved(0.008, 0.009)).more_seeds
    assert more is not None
    n, told = 6 + more, []
    for _ in range(200):
        base = rng.normal(2.0, 0.05, size=n)
        arm = base + rng.normal(0.008, 0.009, size=n)
        pair = {"base": dict(enumerate(base.tolist())), "look": Look(2, 3)}
        found = only(dict(enumerate(arm.tolist())), **pair)
        told.append(found.verdict == "worse")
    assert 0.7 < np.mean(told) < 0.95


def test_one_seed_is_an_answer_without_an_interval():
    found = only({0: 1.9})
    assert (found.verdict, found.low, found.p) == ("not resolved", None, None)
    assert found.text == "not resolved: one seed, so no interval (−0.102 bits/byte)"
    floor = noise.measure("tiny", "abc", [], {"bpb": list(BASE.values())}, [LOSS])
    known = only({0: 1.9}, noise=floor, look=Look(1, 1))
    assert known.low is None
    assert known.text.startswith("not resolved: one seed, so no interval; about 2 more seeds")
    assert known.noise_ratio == pytest.approx(-0.102 / 0.0137, rel=0.01)


def test_the_noise_floor_moves_no_interval():
    floor = noise.measure("tiny", "abc", [], {"bpb": [2.0, 2.0001, 2.0002]}, [LOSS])
    arm = moved(0.004, 0.02)
    without, beside = only(arm), only(arm, noise=floor)
    assert (without.low, without.high, without.p) == (beside.low, beside.high, beside.p)
    assert without.verdict == beside.verdict == "not resolved"
    assert without.smallest_effect != beside.smallest_effect


def test_who_is_refused_is_not_counted():
    arms = {"base": BASE, "a": moved(0.02, 0.02), "b": moved(-0.5, 0.01)}
    a, b = compare(LOSS, "base", arms, {"b": "data.sha256 differs"})
    assert (b.verdict, b.text) == ("not comparable", "not comparable: data.sha256 differs")
    assert (b.difference, b.p, b.low) == (None, None, None)
    assert (a.family, a.p_adjusted) == (1, a.p)
    assert compare(LOSS, "base", arms)[0].family == 2


def test_lost_runs_are_said_and_decide_by_ranks():
    gone = only(dict.fromkeys(BASE))
    assert gone.verdict == "worse"
    assert gone.text == (
        "worse: diverged against 2.003 bits/byte "
        "(medians, by ranks, p = 0.0022 where look 1 asks for 0.04, "
        "6 of 6 diverged, 0 of 6 of the base)"
    )
    one = only({**moved(-0.5, 0.01), 3: None})
    assert one.verdict == "not resolved"
    assert (one.low, one.lost_variant) == (None, 1)
    assert "1 of 6 diverged" in one.text


def test_ranks_that_would_not_tell_however_often_repeated_say_how_many_were_tried():
    base = {seed: 2.0 + 0.01 * seed for seed in range(6)}
    arm = {seed: x - 0.015 for seed, x in base.items()} | {3: None}
    for left_out, most in (([], 114), ([0], 95)):  # 19 times as many as there are of the fewest
        found = only({seed: x for seed, x in arm.items() if seed not in left_out}, base=base)
        assert (found.method, found.more_seeds) == ("ranks", None)
        assert found.text.startswith(f"not resolved: more than {most} more seeds needed (")


def test_usually_better_but_lost_more_often_is_not_better():
    base = {seed: 2.0 + 0.001 * seed for seed in range(12)}
    arm = {seed: None if seed == 4 else x - 1 for seed, x in base.items()}
    found = only(arm, base=base)
    assert found.p is not None
    assert found.p < 0.01
    assert found.verdict == "not resolved"
    assert found.text.endswith("fails more often (1 of 12 diverged, 0 of 12 of the base)")
    assert only(base, base=arm).verdict == "not resolved"


def test_equal_values_decide_nothing():
    assert only(dict(BASE)).text == ("not resolved: as good as each other run by run (0 bits/byte)")


def test_arms_without_runs():
    assert only({}).text == "not resolved: no run of new finished"
    assert only(BASE, base={}).text == "not resolved: no run of base finished"


def test_a_margin_comes_from_the_study_or_the_floor_or_the_base():
    floor = noise.measure("tiny", "abc", [], {"bpb": list(BASE.values())}, [LOSS])
    bare = LOSS.model_copy(update={"margin": None})
    assert with_margin(LOSS, BASE, floor).margin == 0.01
    assert with_margin(bare, BASE, floor).margin == floor.metrics["bpb"].sd
    assert with_margin(bare, BASE, None).margin == pytest.approx(0.01)
    assert with_margin(bare, {0: None}, None).margin is None
    assert with_margin(TIME.model_copy(update={"margin": None}), BASE, None).margin == 1.005
