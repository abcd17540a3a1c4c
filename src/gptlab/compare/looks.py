"""Looks: each time that other results of a study are judged, there is less left to go wrong.

    look 1              0.8 alpha
    look k = 2, 3 ...   0.3 alpha / ((k - 1) k (k + 1)), together 0.075 alpha

Most of alpha is the first look's, so that a study of seeds decided on beforehand loses little. The
sum is below alpha on purpose. It bounds what goes wrong where the seeds of every look are fixed,
but who adds seeds after a look also chooses by it how many, and that wins more than the sum: what
is left makes up for the worst of all such choices (arms that share one test of normal noise, one
to thirty variants). Later looks fall as k^-3, so that the second, which is common, keeps 0.05.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pydantic import Field, ValidationError

from gptlab import files
from gptlab.compare.results import Plain
from gptlab.compare.statistics import Arm

LOOKS = "looks.json"
MAX_BYTES = 10_000_000
FEWEST = 2  # runs of an arm, below which nothing is tested


def share(look: int) -> float:
    """Give the part of alpha that a look may spend; the first is number 1."""
    return 0.8 if look == 1 else 0.3 / ((look - 1) * look * (look + 1))


@dataclass(frozen=True)
class Look:
    """`number`: of the looks at one size. `following`: of the one at further seeds.

    `left_out`: by arm, seeds that an earlier look had and this one has not.
    """

    number: int = 1
    following: int = 2
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)


ONLY = Look()  # of results that are judged once


class Seen(Plain):
    """Runs that were looked at: the seeds of every arm, and by metric a hash of their values."""

    scale: str
    seeds: dict[str, list[int]]
    sha256: dict[str, str]

    def is_at(self, other: "Seen") -> bool:
        """Tell whether both are of the same runs: no metric that both have says otherwise."""
        both = self.sha256.keys() & other.sha256.keys()
        alike = all(self.sha256[metric] == other.sha256[metric] for metric in both)
        return alike and (self.scale, self.seeds) == (other.scale, other.seeds)


class Looks(Plain):
    """All looks at a study, in their order: `looks.json` in its folder.

    Several metrics of the same runs are one look: most of them say the same in other words.
    `shown`: results that could not be tested, of which seeds might be chosen all the same.
    """

    looks: list[Seen] = Field(default_factory=list)
    shown: list[Seen] = Field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "Looks":
        """Read those of a study's folder; none if nothing was judged there."""
        file = folder / LOOKS
        return files.read_parsed(file, MAX_BYTES, cls._parse) if file.exists() else cls()

    def save(self, folder: Path) -> None:
        files.replace(folder / LOOKS, self.model_dump_json(indent=1).encode() + b"\n")

    def take(self, metric: str, scale: str, base: str, arms: Mapping[str, Arm]) -> Look:
        """Count a look at these arms; the same values again are the same look.

        Where no arm has two runs beside a base of two, nothing is tested, and it is no look yet.
        """
        past = _at(scale, self.looks)
        tested = {name: arm for name, arm in arms.items() if len(arm) >= FEWEST}
        if base not in tested or len(tested) < 2:
            _note(self.shown, _seen(metric, scale, arms))
            return Look(len(past) + 1, len(past) + 1)
        seen = _note(self.looks, _seen(metric, scale, tested))
        past = _at(scale, self.looks)
        number = past.index(seen) + 1
        before = [*past[: number - 1], *_at(scale, self.shown)]
        return Look(number, len(past) + 1, _left_out(before, seen))

    def planned(self, scale: str, arms: Sequence[str], seeds: Sequence[int]) -> int:
        """Tell the number of the look that a study of these seeds will have."""
        past = [seen.seeds for seen in _at(scale, self.looks)]
        asked = {name: sorted(seeds) for name in arms}
        return (past.index(asked) if asked in past else len(past)) + 1

    @classmethod
    def _parse(cls, content: bytes) -> "Looks":
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = "".join(f"{step}: " for step in problem["loc"])
            raise ValueError(f"{place}{problem['msg']}") from None


def _at(scale: str, seen: Sequence[Seen]) -> list[Seen]:
    return [each for each in seen if each.scale == scale]


def _note(known: list[Seen], new: Seen) -> Seen:
    """Add what is new to what is known; give where it stands now."""
    for each in known:
        if each.is_at(new):
            each.sha256.update(new.sha256)
            return each
    known.append(new)
    return new


def _seen(metric: str, scale: str, arms: Mapping[str, Arm]) -> Seen:
    values = {name: sorted(arm.items()) for name, arm in sorted(arms.items())}
    digest = sha256(json.dumps(values).encode()).hexdigest()
    seeds = {name: sorted(arm) for name, arm in arms.items()}
    return Seen(scale=scale, seeds=seeds, sha256={metric: digest})


def _left_out(before: Sequence[Seen], now: Seen) -> dict[str, list[int]]:
    had = {
        name: {seed for seen in before for seed in seen.seeds.get(name, [])} for name in now.seeds
    }
    missing = {name: sorted(seeds - {*now.seeds[name]}) for name, seeds in had.items()}
    return {name: seeds for name, seeds in missing.items() if seeds}
