"""What went wrong in the runs of a study: a line for each attempt, in `failures.jsonl`."""

import json
from pathlib import Path

from pydantic import PositiveInt

from gptlab import files
from gptlab.compare.jobs import Ended
from gptlab.config import Config

FAILURES = "failures.jsonl"
MAX_BYTES = 10_000_000


class Failure(Config):
    """An attempt at a run, by the name of its folder."""

    run: str
    attempt: PositiveInt
    problem: str

    @property
    def text(self) -> str:
        return f"{self.problem} (tried {self.attempt} times)"


def keep(ended: Ended, folder: Path) -> Failure:
    """Append a failure to those of a study."""
    failure = Failure(run=ended.task.name, attempt=ended.task.attempt, problem=ended.problem)
    files.append(folder / FAILURES, failure.model_dump_json().encode() + b"\n")
    return failure


def kept(folder: Path) -> tuple[dict[str, str], int]:
    """Read the last failure of every run, by name, and count the lines that cannot be read.

    Raises ValueError for a file that is none of ours.
    """
    file, found, damaged = folder / FAILURES, {}, 0
    if not file.exists():
        return found, damaged
    try:
        content = files.read_parsed(file, MAX_BYTES, bytes)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and no failure of before is told") from None
    for line in content.splitlines():
        try:
            failure = Failure.parse(json.loads(line))
        except (ValueError, RecursionError):
            damaged += 1
        else:
            found[failure.run] = failure.text
    return found, damaged
