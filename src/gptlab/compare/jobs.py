"""Jobs: the single runs of a study, each in an ordinary run folder that any study may find."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gptlab.compare.arms import Arm
from gptlab.compare.beginning import alone
from gptlab.compare.identity import LENGTH, SEAL, identity, noted, seal, sealed
from gptlab.runs.folder import MAX_NAME, RunFolder, Taken
from gptlab.train.opening import begin, reopen
from gptlab.train.recipe import Recipe
from gptlab.train.run import finish
from gptlab.train.session import Say, Session

Role = Literal["tuning", "report"]
State = Literal["new", "started", "done", "diverged"]
RETRIES = 1


@dataclass(frozen=True)
class Job:
    """One run: an arm with a seed and, in tuning, a learning rate of its own."""

    arm: Arm
    seed: int
    role: Role
    recipe: Recipe
    identity: str

    @classmethod
    def of(cls, arm: Arm, seed: int, role: Role, on_behalf_of: Arm | None = None) -> "Job":
        recipe = arm.recipe.but(seed=seed)
        return cls(on_behalf_of or arm, seed, role, recipe, identity(recipe, arm.facts))

    @property
    def label(self) -> str:
        """What a person calls it."""
        tried = f", lr {self.recipe.optimizer.lr:g}" if self.role == "tuning" else ""
        at = f" at {self.arm.scale}" if self.arm.scale else ""
        return f"{self.arm.name}{at}, seed {self.seed}{tried}"

    def folder(self, root: Path) -> Path:
        """Find the run's folder, whatever a study called it; a new one is named by this job."""
        ending = f"-{self.identity[:LENGTH]}"
        name = f"{self.arm.name.replace('+', '.')}-s{self.seed}"
        return located(root, name[: MAX_NAME - len(ending)] + ending)

    def state(self, root: Path) -> State:
        """Tell how far it is. Raises ValueError for a folder that was changed by hand."""
        path = self.folder(root)
        if not path.exists():
            return "new"
        return sealed(RunFolder.open(path), self.identity, self.recipe) or "started"


def located(root: Path, name: str) -> Path:
    """Find the run whose identity ends this name, whatever it is called; one that has ended first.

    What another study began in the meantime may have another name.
    """
    found = [path for path in root.glob(f"*{name[-LENGTH - 1 :]}") if path.is_dir()]
    return min(found, key=lambda path: (not (path / SEAL).exists(), path), default=root / name)


@dataclass(frozen=True)
class Task:
    """What a worker needs to know of a job."""

    root: str
    name: str
    recipe: str  # YAML
    threads: int
    flops: float
    attempt: int = 1


@dataclass(frozen=True)
class Ended:
    """How a task ended: `stopped` by a signal, with what there is saved.

    `taken`: it has not begun, since another process is at this run.
    """

    task: Task
    how: Literal["done", "diverged", "failed", "stopped", "taken"]
    problem: str = ""


Stop = Callable[[], object]
Executor = Callable[[deque[Task], Stop], Iterator[Ended | None]]


def perform(task: Task, say: Say) -> Ended:
    """Run a task to its end, or go on with it; what goes wrong is said, not raised."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(task.threads)
        run, begun = _opened(task, say)
        with run.lock():
            return _performed(task, run, begun, say)
    except Taken:
        return Ended(task, "taken")
    except Exception as error:  # of whatever kind: it is kept and shown, the other runs go on
        return Ended(task, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        torch.set_num_threads(before)


def _opened(task: Task, say: Say) -> tuple[RunFolder, Session | None]:
    """Find the run, or begin it; who finds it has no session yet."""
    root = Path(task.root)
    path = located(root, task.name)
    if path.exists():
        return RunFolder.open(path), None
    with alone(root, task.name[-LENGTH:]):
        path = located(root, task.name)
        begun = None if path.exists() else _begun(task, root, say)
    return RunFolder.open(path), begun


def _begun(task: Task, root: Path, say: Say) -> Session:
    recipe = Recipe.from_yaml(task.recipe).but(name=task.name)
    return begin(recipe, root, say, recipe.name)


def _performed(task: Task, run: RunFolder, begun: Session | None, say: Say) -> Ended:
    """Do it, and seal it before anybody else can have it; who held the lock may have done so."""
    outcome = noted(run)
    if outcome is not None:
        return Ended(task, outcome)
    try:
        reason = finish(begun or reopen(run, (), say)).reason
    except FloatingPointError as error:
        seal(run, "diverged")
        return Ended(task, "diverged", str(error))
    if reason != "done":
        return Ended(task, "stopped", reason)
    seal(run, "done")
    return Ended(task, "done")


def in_this_process(tasks: deque[Task], stop: Stop, say: Say = print) -> Iterator[Ended | None]:
    """Do one task after the other here, each with its own live display."""
    while tasks and not stop():
        yield perform(tasks.popleft(), say)
