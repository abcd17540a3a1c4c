"""Run a recipe from start to end, or go on with a run folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

from gptlab import machine
from gptlab.runs.folder import RunFolder
from gptlab.train.display import Display
from gptlab.train.kernels import choose_kernels
from gptlab.train.loop import train
from gptlab.train.opening import begin, reopen
from gptlab.train.recipe import Recipe
from gptlab.train.report import Report
from gptlab.train.room import memory_of, rows_that_fit
from gptlab.train.session import Say, Session
from gptlab.train.signals import Signals

COMPILERS = ("triton.", "torch._dynamo.", "torch._inductor.")


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
        return finish(session)


def resume_run(path: str | Path, assignments: Sequence[str] = (), say: Say = print) -> Outcome:
    """Go on with a run from its last good checkpoint."""
    run = RunFolder.open(Path(path))
    with run.lock():
        return finish(reopen(run, assignments, say))


def finish(session: Session) -> Outcome:
    """Train to the end; whoever calls it holds the lock of the run's folder."""
    run = session.run
    run.write_status("running", session.step)
    with Signals() as signals, Display(session.steps) as display:
        report = Report(session, display)
        try:
            reason = train(session, report, signals)
        except Exception as error:
            explained = _explained(error, session)
            with suppress(OSError):  # the folder itself may be what failed
                run.write_status("failed", session.step, f"{type(error).__name__}: {explained}")
            if explained is error:
                raise
            raise explained from error
        finally:
            report.close()
    run.write_status("done" if reason == "done" else "stopped", session.step, reason)
    return Outcome(reason, run, session)


def _explained(error: Exception, session: Session) -> Exception:
    """Say of an error that a user can do something about, what, and what is left of the run."""
    if isinstance(error, FloatingPointError):
        with suppress(FloatingPointError, OSError):  # the step that diverged was not taken
            session.save()
        return FloatingPointError(f"{error}; {_what_is_left(session)}")
    if machine.is_out_of_memory(error):
        T, rows = session.recipe.model.context_length, session.recipe.micro_batch_size()
        return MemoryError(
            f"out of memory at step {session.step + 1} with {rows} rows of {T} tokens at once; "
            f"try {_smaller(session)}, a smaller model.context_length or a smaller model.d_model; "
            f"{_what_is_left(session)}"
        )
    names = choose_kernels(session.recipe.train.kernels, session.device)
    if names and is_of_a_compiler(error):
        why = str(error).strip().partition("\n")[0]
        return ValueError(
            f"train.kernels={session.recipe.train.kernels}: {' or '.join(names)} failed "
            f"({type(error).__name__}: {why}); go on without: gptlab resume {session.run.path} "
            "train.kernels=torch"
        )
    return error


def is_of_a_compiler(error: Exception) -> bool:
    """Tell whether it comes from what compiles kernels: no C compiler, an unknown GPU.

    Mistakes of our own, in code that is compiled, come from within us.
    """
    modules = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    ours = max(i for i, name in enumerate(modules) if name.startswith("gptlab."))
    return any(name.startswith(COMPILERS) for name in modules[ours + 1 :])


def _smaller(session: Session) -> str:
    """Choose how many rows to try: those predicted to fit, and half of what did not."""
    recipe = session.recipe
    T, rows = recipe.model.context_length, recipe.micro_batch_size()
    if rows == 1:
        return "a smaller model.n_layers"
    room, most = memory_of(session.device), rows // 2
    with suppress(MemoryError, RuntimeError):  # there may be too little even for predicting
        most = min(most, rows_that_fit(recipe, session.precision == "bf16", room))
    if most == 0:
        return f"train.micro_batch_tokens={T}, though not even that may fit"
    return f"train.micro_batch_tokens={most * T}"


def _what_is_left(session: Session) -> str:
    if session.saved_step is None:
        return f"{session.run.path} has no checkpoint yet"
    return f"the last good checkpoint of {session.run.path} is that of step {session.saved_step}"
