"""The protocol finds what it should: on machines made up here, with clocks of their own."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gptlab.bench.arms import Section
from gptlab.bench.protocol import Plan, Progress, cpu_times, measure
from gptlab.bench.ratios import noise, paired, ratio_of


@dataclass
class Machine:
    """A machine whose speed at a moment is `pace(now)`, for arms and calibrator alike."""

    speeds: dict[str, float]
    pace: Callable[[float], float] = lambda now: 1.0
    jitter: float = 0.02
    now: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    turns: list[str] = field(default_factory=list)

    def runner(self, label: str):
        machine = self

        class Runner:
            def warm_up(self, seconds: float) -> None:
                self.section(seconds)

            def section(self, seconds: float, least: int = 1) -> Section:
                machine.turns.append(label)
                machine.now += seconds
                unsteady = math.exp(machine.draw.gauss(0, machine.jitter))
                speed = machine.speeds[label] * machine.pace(machine.now) * unsteady
                return Section(speed * seconds, seconds)

        return Runner()

    def calibrate(self) -> dict[str, float]:
        return {"products": 1 / self.pace(self.now), "copies": 2 / self.pace(self.now)}

    def measure(self, rounds: int = 15, max_drift: float = 0.05, **options):
        plan = Plan(rounds=rounds, max_drift=max_drift)
        runners = {label: self.runner(label) for label in self.speeds}
        options.setdefault("read_steal", lambda: (0.0, self.now))
        return measure(runners, self.calibrate, plan, **options)


def test_a_known_ratio_is_found_and_the_control_is_one():
    rounds = Machine({"ours": 300.0, "control": 300.0, "other": 100.0}).measure()
    other, control = (ratio_of(paired(rounds, "ours", x)) for x in ("other", "control"))
    assert other.low < 3.0 < other.high
    assert other.high - other.low < 0.15
    assert control.low < 1.0 < control.high
    assert other.p < 0.001 < 0.05 < control.p
    assert 2.8 <= (other.claim(noise(control)) or 0) <= other.low


def test_a_machine_that_grows_slower_flatters_nobody():
    def slowing(now: float) -> float:
        return math.exp(-now / 600)

    machine = Machine({"ours": 200.0, "other": 100.0}, slowing, jitter=0.0)
    rounds = machine.measure(8, max_drift=0.5)
    assert all(
        math.exp(log) == pytest.approx(2.0, rel=1e-9) for log in paired(rounds, "ours", "other")
    )


def test_rounds_in_which_the_machine_changed_are_dropped_and_made_again():
    def pace(now: float) -> float:
        return 0.5 if 30 < now < 60 else 1.0

    rounds = Machine({"ours": 200.0, "other": 100.0}, pace).measure(rounds=7)
    dropped = [each.dropped for each in rounds if each.dropped]
    assert dropped == ["the calibrator drifted by +100.0%", "the calibrator drifted by -50.0%"]
    assert len(rounds) - len(dropped) == 7
    assert len(paired(rounds, "ours", "other")) == 7


def test_rounds_of_which_time_was_stolen_are_dropped():
    machine = Machine({"ours": 200.0, "other": 100.0})

    def steal() -> tuple[float, float]:
        return max(0.0, machine.now - 30) * 0.02, machine.now

    rounds = machine.measure(rounds=4, read_steal=steal)
    assert [each.dropped for each in rounds[:2]] == [None, None]
    assert {each.dropped for each in rounds[2:]} == {"2.0% of the CPU time was taken away"}


def test_it_gives_up_when_twice_as_many_rounds_did_not_do():
    machine = Machine({"ours": 200.0, "other": 100.0}, lambda now: 1.1 ** (now // 12))
    rounds = machine.measure(rounds=3)
    assert len(rounds) == 6
    assert all(each.dropped for each in rounds)


def test_a_round_is_an_order_and_its_reverse_and_orders_differ():
    labels = ("a", "b", "c", "d")
    machine = Machine(dict.fromkeys(labels, 1.0))
    machine.measure(rounds=6)
    warm, turns = machine.turns[:4], machine.turns[4:]
    assert warm == list(labels)
    rounds = [turns[i : i + 8] for i in range(0, len(turns), 8)]
    assert all(each == each[::-1] and set(each) == set(labels) for each in rounds)
    assert any(a != b for a, b in pairwise(rounds))


def test_ctrl_c_keeps_the_rounds_that_are_whole():
    machine = Machine({"ours": 2.0, "other": 1.0})

    def tell(progress: Progress) -> None:
        if progress.turn == 2 + 4 * 3 + 1:
            raise KeyboardInterrupt

    rounds = machine.measure(rounds=7, tell=tell)
    assert len(rounds) == 3
    assert all(len(of) == 2 for each in rounds for of in each.speeds.values())


def test_ctrl_c_before_there_is_anything_is_ctrl_c():
    def tell(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Machine({"ours": 2.0}).measure(tell=tell)


def test_steal_is_read_where_linux_tells_it(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1 2 3\n")
    assert cpu_times(stat) == (80.0, 360.0)
    assert cpu_times(tmp_path / "none") == (0.0, 0.0)
