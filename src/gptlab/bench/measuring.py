"""A measurement from its arms to its record."""

from collections.abc import Callable, Sequence

from gptlab.bench.arms import Apart, Arm, Worker, Workers
from gptlab.bench.preparing import Field
from gptlab.bench.protocol import Plan, Progress, Tell, measure
from gptlab.bench.record import Record, fingerprint


def run(
    field: Field, work: str, title: str, about: str, unit: str, plan: Plan, threads: int | None,
    tell: Tell,
) -> Record:  # fmt: skip
    """Start all arms and the calibrator, let them take turns, and keep what they gave."""
    tell(Progress(0, 1, f"starting {len(field.arms)} processes"))
    with Workers(field.arms, work, threads) as workers:
        return take_turns(workers, title, about, unit, plan, threads, tell)


def take_turns(
    workers: Sequence[Worker | Apart], title: str, about: str, unit: str, plan: Plan,
    threads: int | None, tell: Tell,
) -> Record:  # fmt: skip
    """Let arms take turns beside the calibrator, and keep what they gave."""
    with Workers([Arm("calibrator", "_calibrator", {})], "calibrate", threads) as (calibrator,):
        facts = fingerprint() | {"threads": calibrator.facts["threads"]}
        runners = {worker.arm.label: worker for worker in workers}
        rounds = measure(runners, calibration_by(calibrator), plan, tell)
    return Record.of(title, about, unit, plan, facts, workers, rounds)


def calibration_by(calibrator: Worker) -> Callable[[], dict[str, float]]:
    """Let a worker be the calibrator."""

    def calibrate() -> dict[str, float]:
        calibrator.section(0.0)
        return calibrator.losses

    return calibrate
