"""What is kept of a measurement: everything, round by round, so that it can be judged again."""

import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, model_validator

from gptlab import files, machine
from gptlab.bench.arms import Apart, Worker
from gptlab.bench.protocol import Plan, Round
from gptlab.bench.protocol import kept as kept_rounds
from gptlab.bench.ratios import Ratio, noise, paired, ratio_of
from gptlab.config import Config
from gptlab.train.environment import git_commit

RUN = "run"  # the unit of races
CONTROL = "control"  # the first arm once more
MAX_BYTES = 50_000_000
TOLD_OF_A_MACHINE = {"cpu", "gpus", "threads", "torch", "commit", "load"}


class KeptRound(Config):
    """See `protocol.Round`; a speed is null where a run never got there."""

    speeds: dict[str, Annotated[list[PositiveFloat | None], Field(min_length=1)]]
    calibration: tuple[dict[str, float], dict[str, float]]
    steal: float
    dropped: str | None
    races: dict[str, Any]

    def round(self) -> Round:
        """Make it what `ratios` reads."""
        speeds = {label: [each or 0.0 for each in of] for label, of in self.speeds.items()}
        return Round(speeds, self.calibration, self.steal, self.dropped)


class KeptArm(Config):
    """What an arm said of itself; losses by step; peak memory beyond what it had imported.

    A loss is null where it was no finite number.
    """

    label: str
    facts: dict[str, Any]
    losses: dict[str, float | None]
    peak: int


class Record(Config):
    """A measurement. The first arm is the one whose speed is compared with the others'.

    `unit`: what speeds count, in a second. `about`: what the arms have in common.
    `command`: what was typed, without paths. `interrupted`: by Ctrl-C.
    """

    title: str
    about: str
    unit: str
    command: str = ""
    made: str
    plan: dict[str, float]
    machine: dict[str, Any]
    arms: Annotated[tuple[KeptArm, ...], Field(min_length=1)]
    rounds: Annotated[tuple[KeptRound, ...], Field(min_length=1)]
    interrupted: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        labels = {arm.label for arm in self.arms}
        if any(each.speeds.keys() != labels for each in self.rounds):
            raise ValueError("there are rounds without speeds of every arm, or of others")
        lacking = TOLD_OF_A_MACHINE - self.machine.keys() | {"rounds"} - self.plan.keys()
        if lacking:
            raise ValueError(f"machine or plan has no {' and no '.join(sorted(lacking))}")
        return self

    @classmethod
    def of(
        cls,
        title: str,
        about: str,
        unit: str,
        plan: Plan,
        facts: dict[str, Any],
        workers: Sequence[Worker | Apart],
        rounds: Sequence[Round],
    ) -> Self:
        """Keep what was measured."""
        arms = [
            KeptArm(
                label=each.arm.label,
                facts=each.facts,
                losses={n: x if math.isfinite(x) else None for n, x in each.losses.items()},
                peak=each.peak,
            )
            for each in workers
        ]
        kept = [
            KeptRound(
                speeds={label: [s or None for s in of] for label, of in each.speeds.items()},
                calibration=each.calibration,
                steal=each.steal,
                dropped=each.dropped,
                races=each.races,
            )
            for each in rounds
        ]
        return cls(
            title=title,
            about=about,
            unit=unit,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            plan=vars(plan),
            machine=facts,
            arms=tuple(arms),
            rounds=tuple(kept),
            interrupted=len(kept_rounds(rounds)) < plan.rounds and len(rounds) < 2 * plan.rounds,
        )

    @property
    def first(self) -> str:
        """The label of the arm that the others are compared with."""
        return self.arms[0].label

    def ratios(self) -> dict[str, Ratio]:
        """How many times faster the first arm is than each other one, the control among them."""
        rounds = [each.round() for each in self.rounds]
        others = [arm.label for arm in self.arms[1:]]
        logs = {label: paired(rounds, self.first, label) for label in others}
        return {label: ratio_of(found) for label, found in logs.items() if found}

    def noise(self) -> float | None:
        """How far from 1 the control may seem to be; None if there was none."""
        control = self.ratios().get(CONTROL)
        return noise(control) if control and math.isfinite(control.high) else None

    def dropped(self) -> list[str]:
        """Why rounds were dropped."""
        return [each.dropped for each in self.rounds if each.dropped is not None]

    def save(self, file: Path) -> None:
        """Write it all as JSON."""
        tree = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        files.replace(file, tree.encode("utf-8"))

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote."""
        return files.read_parsed(
            file, MAX_BYTES, lambda content: cls.parse(json.loads(content)), "not a measurement: "
        )


def fingerprint() -> dict[str, Any]:
    """What the results belong to: the machine, the versions, the commit, and its load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return machine.describe() | {"commit": git_commit(), "load": load}
