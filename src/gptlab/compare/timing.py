"""How long a training step takes, measured on a run that leaves nothing behind."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from pydantic import PositiveFloat

from gptlab import files, machine
from gptlab.compare.arms import Arm
from gptlab.compare.budget import match_time
from gptlab.compare.identity import recipe_identity
from gptlab.config import Config
from gptlab.runs.folder import MAX_JSON_BYTES
from gptlab.train.loop import take_step
from gptlab.train.opening import begin
from gptlab.train.recipe import Recipe
from gptlab.train.session import Say

WARM_UP, LEAST, MOST_SECONDS = 2, 3, 1.0
PILOT = "pilot.json"


class _Pilot(Config):
    """Seconds of a step, by what they depend on, by recipe."""

    seconds: dict[str, dict[str, PositiveFloat]]


def step_seconds(recipes: Sequence[Recipe]) -> list[float]:
    """Measure a step of each recipe, in order and back again, so that a drift strikes all alike."""
    times: list[list[float]] = [[] for _ in recipes]
    numbers = range(len(recipes))
    for number in (*numbers, *reversed(numbers)):
        times[number] += _times(recipes[number])
    return [median(each) for each in times]


def timed(arms: Sequence[Arm], folder: Path, say: Say, keep: bool) -> list[Arm]:
    """Give every arm the steps that fit into the time of its reference.

    What was measured once is kept in the study's folder, so that the runs stay what they are; for
    another machine, or another number of threads, it is measured anew.
    """
    kept = _measured_before(folder / PILOT)
    here = _here()
    known = kept.get(here, {})
    names = [recipe_identity(arm.recipe, arm.facts) for arm in arms]
    missing = [number for number, name in enumerate(names) if name not in known]
    if missing:
        say(f"measuring a step of {len(missing)} arms")
        measured = step_seconds([arms[number].recipe for number in missing])
        known |= {names[number]: seconds for number, seconds in zip(missing, measured, strict=True)}
        if keep:
            folder.mkdir(parents=True, exist_ok=True)
            kept[here] = known
            files.replace(folder / PILOT, json.dumps(kept, indent=1).encode() + b"\n")
    pace = dict(zip(names, (known[name] for name in names), strict=True))
    budget = {
        arm.scale: arm.recipe.total_steps() * pace[name]
        for arm, name in zip(arms, names, strict=True)
        if arm.reference
    }
    found = []
    for arm, name in zip(arms, names, strict=True):
        recipe, matched = match_time(arm.recipe, budget[arm.scale], pace[name])
        found.append(replace(arm, recipe=recipe, matched=matched))
    return found


def _measured_before(file: Path) -> dict[str, dict[str, float]]:
    try:
        tree = files.read_object(file, MAX_JSON_BYTES)
        return _Pilot.parse({"seconds": tree or {}}).seconds
    except ValueError as error:
        problem = str(error).splitlines()[0].removeprefix(f"{file}: damaged: ")
        raise ValueError(
            f"{file}: damaged: {problem}; remove it, and steps are measured anew: runs of other "
            "steps are other runs"
        ) from None


def _here() -> str:
    """Name all that a time depends on beside the recipe: processor, GPUs, threads."""
    known = machine.describe()
    gpus = [gpu["name"] for gpu in known["gpus"]]
    return ", ".join([known["cpu"], *gpus, f"{known['torch']['threads']} threads"])


def _times(recipe: Recipe) -> list[float]:
    with TemporaryDirectory() as folder:
        session = begin(recipe, Path(folder), lambda text: None, recipe.name)
        for _ in range(WARM_UP):
            take_step(session)
        times, began = [], time.perf_counter()
        while len(times) < LEAST or time.perf_counter() - began < MOST_SECONDS:
            before = time.perf_counter()
            take_step(session)
            times.append(time.perf_counter() - before)
    return times
