"""Run a recipe from start to end, or go on with a run folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from gptlab.runs.folder import RunFolder
from gptlab.train.display import Display
from gptlab.train.loop import train
from gptlab.train.recipe import Recipe
from gptlab.train.report import Report
from gptlab.train.session import Say, Session, begin, reopen


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `reason` is done, max_seconds, SIGINT or SIGTERM."""

    reason: str
    run: RunFolder
    session: Session


def start_run(
    recipe: Recipe, root: str | Path = "runs", say: Say = print, origin: str | None = None
) -> Outcome:
    """Train a recipe in a new folder below `root`. Raises ValueError for a user's mistake.

    `origin`: the name of the recipe that this one was made of, for the table of runs.
    """
    session = begin(recipe, Path(root), say, origin or recipe.name)
    with session.run.lock():
        return _finish(session)


def resume_run(path: str | Path, assignments: Sequence[str] = (), say: Say = print) -> Outcome:
    """Go on with a run from its last good checkpoint."""
    run = RunFolder.open(Path(path))
    with run.lock():
        return _finish(reopen(run, assignments, say))


def _finish(session: Session) -> Outcome:
    run = session.run
    run.write_status("running", session.step)
    display = Display(session.steps)
    with display:
        report = Report(session, display)
        try:
            reason = train(session, report)
        except BaseException as error:
            with suppress(OSError):  # the folder itself may be what failed
                run.write_status("failed", session.step, f"{type(error).__name__}: {error}")
            raise _explained(error, session) from error
        finally:
            report.close()
    run.write_status("done" if reason == "done" else "stopped", session.step, reason)
    return Outcome(reason, run, session)


def _explained(error: BaseException, session: Session) -> BaseException:
    if isinstance(error, FloatingPointError):
        session.save()  # the step that diverged was not taken: these weights are the last good ones
        return FloatingPointError(
            f"{error}; its last good checkpoint is in {session.run.checkpoints}"
        )
    if isinstance(error, torch.OutOfMemoryError):
        recipe = session.recipe
        rows = recipe.micro_batch_size()
        return MemoryError(
            f"out of memory at step {session.step + 1} with {rows} rows of "
            f"{recipe.model.context_length} tokens at once; try "
            f"train.micro_batch_tokens={max(1, rows // 2) * recipe.model.context_length}, "
            "a smaller model.context_length or a smaller model.d_model; "
            f"the last checkpoint is in {session.run.checkpoints}"
        )
    return error
