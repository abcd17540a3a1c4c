"""The protocol: rounds in which all arms take turns, and a rule for rounds that do not count.

In a round every arm works twice, in a random order and then in the reverse of it (A B C C B A), so
that a machine that grows slower treats all alike. A calibrator, the same work each time, is timed
before and after a round; if it took more than `max_drift` longer or shorter, or if the machine that
runs this one took CPU time away (steal), the round is dropped and another one is made, at most as
many again as were asked for. The rule is fixed before anything is measured, and drops are told.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gptlab.bench.arms import Section

MAX_STEAL = 0.01  # of the CPU time of a round


class Runner(Protocol):
    """Something that works when it is asked to."""

    def warm_up(self, seconds: float) -> None: ...

    def section(self, seconds: float, least: int = 1) -> Section: ...


@dataclass(frozen=True)
class Plan:
    """`rounds` that count; `seconds` of each arm's two turns in one; `warmup` before the first."""

    rounds: int = 7
    seconds: float = 3.0
    warmup: float = 3.0
    max_drift: float = 0.05
    seed: int = 0


@dataclass
class Round:
    """What a round gave: the speeds of each arm, and `dropped`, why it does not count.

    `races`: what each arm told of its run, where rounds are races.
    """

    speeds: dict[str, list[float]] = field(default_factory=dict)
    calibration: tuple[dict[str, float], dict[str, float]] = ({}, {})
    steal: float = 0.0
    dropped: str | None = None
    races: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """How far a measurement is: so many of `turns`, and what is being done."""

    turn: int
    turns: int
    what: str


Tell = Callable[[Progress], None]


def measure(
    runners: Mapping[str, Runner],
    calibrate: Callable[[], dict[str, float]],
    plan: Plan,
    tell: Tell = lambda progress: None,
    read_steal: Callable[[], tuple[float, float]] = lambda: cpu_times(),
) -> list[Round]:
    """Make rounds until enough of them count. Ctrl-C keeps those that are whole."""
    rounds: list[Round] = []
    draw = random.Random(plan.seed)
    per_round = 2 * len(runners)
    try:
        for number, (label, runner) in enumerate(runners.items()):
            tell(Progress(number, len(runners) + plan.rounds * per_round, f"warming up {label}"))
            runner.warm_up(plan.warmup)
        before = calibrate()
        while missing := plan.rounds - sum(each.dropped is None for each in rounds):
            if len(rounds) == 2 * plan.rounds:
                break
            order = draw.sample(list(runners), len(runners))
            done = len(runners) + len(rounds) * per_round
            stolen, passed = read_steal()
            this = Round({label: [] for label in runners})
            for turn, label in enumerate(order + order[::-1]):
                name = f"round {len(rounds) + 1}: {label}"
                tell(Progress(done + turn, done + missing * per_round, name))
                this.speeds[label].append(runners[label].section(plan.seconds).speed)
            after = calibrate()
            stolen_after, passed_after = read_steal()
            this.calibration = before, after
            this.steal = (stolen_after - stolen) / max(1e-9, passed_after - passed)
            this.dropped = why_dropped(this, plan.max_drift)
            rounds.append(this)
            before = after
    except KeyboardInterrupt:
        if not rounds:
            raise
    return rounds


def why_dropped(this: Round, max_drift: float) -> str | None:
    """Apply the rule; None for a round that counts."""
    moved = drift(*this.calibration)
    if abs(moved) > max_drift:
        return f"the calibrator drifted by {moved:+.1%}"
    if this.steal > MAX_STEAL:
        return f"{this.steal:.1%} of the CPU time was taken away"
    return None


def drift(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """How much longer the calibrator took: the mean over its kinds of work."""
    logs = [math.log(after[kind] / before[kind]) for kind in before]
    return math.exp(sum(logs) / len(logs)) - 1


def cpu_times(file: Path = Path("/proc/stat")) -> tuple[float, float]:
    """CPU time that the host took away, and all there was, in ticks; zeros where nobody tells."""
    try:
        fields = file.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0, 0.0
    ticks = [float(field) for field in fields[:8]]
    return ticks[7], sum(ticks)


def kept(rounds: Sequence[Round]) -> list[Round]:
    """The rounds that count."""
    return [each for each in rounds if each.dropped is None]
