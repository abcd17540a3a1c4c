"""`gptlab bench train --to-loss`: seconds until a validation loss is reached, everything counted.

A race is a whole run, from the start of its process to its end: the interpreter, all imports, the
run's own evaluations and checkpoints. Its model is scored now and then by one evaluator that all
share, while the clock stands. Between two scores the crossing is interpolated. Rounds, each with a
seed of its own, let every arm run once, in turns.

A first arm that does not get there takes for ever. Others that do not are given the time at which
their run ended, which is less than they would need: they are flattered, not we. No round is
dropped: each takes minutes, and the calibrator would tell of its ends only.
"""

import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.bench.arms import Arm, Worker, Workers, raced
from gptlab.bench.measuring import calibration_by
from gptlab.bench.preparing import (
    Field,
    Peers,
    job_of,
    recipe_of,
    sizes,
    split,
    write_text,
)
from gptlab.bench.protocol import Plan, Progress, Round, Tell
from gptlab.bench.record import CONTROL, RUN, Record, fingerprint

EVERY = 25  # steps between two scores


def bench_race(
    words: Sequence[str],
    peers: Peers,
    plan: Plan,
    threads: int | None,
    tell: Tell,
    target: float,
    like: str,
) -> Record:
    """Let recipes race to a loss, and peers in the sizes and for the steps of the recipe `like`."""
    peers.check()
    targets, common = split(words, "shakespeare")
    recipes = {name: recipe_of(name, common, (), None) for name in targets}
    model = recipe_of(like, common, (), None)
    window = min(each.model.context_length for each in (model, *recipes.values()))
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        text = write_text(model, field.folder) | {"window": window}
        for name, recipe in recipes.items():
            recipe.check()
            field.add(Arm(name, "gptlab", job_of(recipe) | text))
        field.add_control()
        for name in peers.names:
            job = sizes(model) | text | {"steps": model.total_steps()}
            field.add(peers.arm(name, name, job))
        calibrator = [Arm("calibrator", "_calibrator", {})]
        with Workers(calibrator, "calibrate", threads) as (worker,):
            facts = fingerprint() | {"threads": worker.facts["threads"]}
            last, rounds = hold(field.arms, calibration_by(worker), plan, threads, tell, target)
    about = (
        f"Until a validation loss of {target:g}, over the whole validation set in windows of "
        f"{window}, from the start of the process; peers in the sizes of {like}"
    )
    return Record.of(
        f"Time to a loss of {target:g}", about, RUN, plan, facts, list(last.values()), rounds
    )


def hold(
    arms: Sequence[Arm], calibrate: Any, plan: Plan, threads: int | None, tell: Tell, target: float
) -> tuple[dict[str, Worker], list[Round]]:
    """Make the rounds; speeds are runs per second. Give also the last worker of each arm."""
    draw, rounds, last = random.Random(plan.seed), list[Round](), dict[str, Worker]()
    before = calibrate()
    try:
        for number in range(plan.rounds):
            this = Round({arm.label: [] for arm in arms})
            for turn, arm in enumerate(draw.sample(list(arms), len(arms))):
                done = number * len(arms) + turn
                name = f"round {number + 1}: {arm.label}"
                tell(Progress(done, plan.rounds * len(arms), name))
                seed = 1000 * (arm.label == CONTROL) + number
                last[arm.label], run = raced(_seeded(arm, seed, done), threads, EVERY)
                this.races[arm.label] = run
                seconds = crossing(run["curve"], target)
                if seconds is None and arm is not arms[0]:
                    seconds = run["whole"]
                this.speeds[arm.label].append(1 / seconds if seconds else 0.0)
            after = calibrate()
            this.calibration = before, after
            rounds.append(this)
            before = after
    except KeyboardInterrupt:
        if not rounds:
            raise
    for label, worker in last.items():
        runs = [each.races[label] for each in rounds]
        worker.facts |= {
            "whole": statistics.median(run["whole"] for run in runs),
            "final_loss": statistics.median(run["curve"][-1][2] for run in runs),
            "reached": sum(crossing(run["curve"], target) is not None for run in runs),
        }
    return {arm.label: last[arm.label] for arm in arms}, rounds


def _seeded(arm: Arm, seed: int, number: int) -> Arm:
    """The arm with another seed, in a folder of its own."""
    folder = Path(arm.job["folder"]) / f"run-{number}"
    folder.mkdir()
    job = arm.job | {"folder": str(folder), "seed": seed}
    if "recipe" in job:
        job["recipe"] = job["recipe"] | {"seed": seed}
    return Arm(arm.label, arm.contestant, job, arm.python)


def crossing(curve: Sequence[Sequence[float]], target: float) -> float | None:
    """The second at which a curve of (step, seconds, loss) first reaches a loss; None if never."""
    before: Sequence[float] | None = None
    for point in curve:
        _, seconds, loss = point
        if loss <= target:
            if before is None:
                return seconds
            share = (before[2] - target) / (before[2] - loss)
            return before[1] + share * (seconds - before[1])
        before = point
    return None
