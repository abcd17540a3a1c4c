import math

import pytest

from gptlab.config import variant_names
from gptlab.train.schedules import Schedule
from gptlab.train.schedules.constant import Constant
from gptlab.train.schedules.cosine import Cosine
from gptlab.train.schedules.wsd import WSD


@pytest.mark.parametrize("name", variant_names(Schedule))
def test_warm_up_rises_in_equal_steps_to_the_peak(name: str):
    schedule = Schedule.parse({"type": name, "warmup": 0.1})
    rates = [schedule.multiplier(step, 100) for step in range(11)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert all(0 <= schedule.multiplier(step, 100) <= 1 for step in range(100))


def test_cosine_is_halfway_in_the_middle_and_ends_at_its_final_fraction():
    schedule = Cosine(final=0.1)
    assert schedule.multiplier(50, 100) == pytest.approx(0.55)
    assert schedule.multiplier(25, 100) == pytest.approx(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert schedule.multiplier(9_999, 10_000) == pytest.approx(0.1, abs=1e-6)


def test_wsd_stays_at_the_peak_until_its_decay():
    schedule = WSD(warmup=0.1, decay=0.5, final=0.2)
    assert schedule.multiplier(54, 100) == 1.0
    assert schedule.multiplier(55 + 22, 100) == pytest.approx(1 - 0.8 * (22.5 - 0.5) / 45, abs=0.02)
    assert schedule.multiplier(9_999, 10_000) == pytest.approx(0.2, abs=1e-3)
    assert WSD(decay=0.0).multiplier(99, 100) == 1.0


def test_constant_stays():
    assert {Constant().multiplier(step, 10) for step in range(10)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", variant_names(Schedule))
def test_the_shortest_runs_have_a_rate(name: str, steps: int):
    schedule = Schedule.parse({"type": name, "warmup": 0.05})
    assert all(schedule.multiplier(step, steps) > 0 for step in range(steps))
