"""Jobs: the single runs of a study, each in an ordinary run folder that any study may find."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gptlab.compare.arms import Arm
from gptlab.compare.identity import LENGTH, identity, seal, sealed
from gptlab.runs.folder import MAX_NAME, RunFolder
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run
from gptlab.train.session import Say

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
        found = sorted(path for path in root.glob(f"*{ending}") if path.is_dir())
        name = f"{self.arm.name.replace('+', '.')}-s{self.seed}"
        return found[0] if found else root / (name[: MAX_NAME - len(ending)] + ending)

    def state(self, root: Path) -> State:
        """Tell how far it is. Raises ValueError for a folder that was changed by hand."""
        path = self.folder(root)
        if not path.exists():
            return "new"
        return sealed(RunFolder.open(path), self.identity) or "started"


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
    """How a task ended: `stopped` by a signal, with what there is saved."""

    task: Task
    how: Literal["done", "diverged", "failed", "stopped"]
    problem: str = ""


Stop = Callable[[], object]
Executor = Callable[[deque[Task], Stop], Iterator[Ended | None]]


def perform(task: Task, say: Say) -> Ended:
    """Run a task to its end, or go on with it; what goes wrong is said, not raised."""
    path, before = Path(task.root) / task.name, torch.get_num_threads()
    try:
        torch.set_num_threads(task.threads)
        if path.exists():
            reason = resume_run(path, say=say).reason
        else:
            recipe = Recipe.from_yaml(task.recipe).but(name=task.name)
            reason = start_run(recipe, task.root, say=say).reason
        if reason != "done":
            return Ended(task, "stopped", reason)
        seal(RunFolder.open(path), "done")
        return Ended(task, "done")
    except FloatingPointError as error:
        seal(RunFolder.open(path), "diverged")
        return Ended(task, "diverged", str(error))
    except Exception as error:  # of whatever kind: it is kept and shown, the other runs go on
        return Ended(task, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        torch.set_num_threads(before)


def in_this_process(tasks: deque[Task], stop: Stop, say: Say = print) -> Iterator[Ended | None]:
    """Do one task after the other here, each with its own live display."""
    while tasks and not stop():
        yield perform(tasks.popleft(), say)
