"""A trial: a model that learns a task from its start, with one learning rate and one seed."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from gptlab.data.batching import IGNORED, Batch
from gptlab.model.gpt import GPT, Model
from gptlab.probes.defaults import STEPS
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Condition, Task
from gptlab.train.loop import clipping
from gptlab.train.optimizers import Optimizer
from gptlab.train.schedules.cosine import Cosine

WARMUP_STEPS = 100
LARGEST_NORM = 1.0
SOLVED, ENOUGH = 0.9, 0.99  # of the way from chance to ceiling


@dataclass(frozen=True)
class Training:
    """How long a trial is at most, of how many rows a step, and how often it is looked at."""

    steps: int = STEPS
    rows: int = 64
    every: int = 25


@dataclass
class Trial:
    """A trial so far. `curve`: steps done, and how far from chance to ceiling it was then.

    `accuracy`: by condition, the last time that it was looked at. `diverged`: no more is to come.
    """

    lr: float
    seed: int
    curve: list[tuple[int, float]] = field(default_factory=list)
    accuracy: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    diverged: bool = False

    @property
    def way(self) -> float:
        """How far from chance to ceiling it came."""
        return self.curve[-1][1] if self.curve else 0.0

    @property
    def solved_at(self) -> int | None:
        """After how many steps nine tenths of the way were behind it; None: never."""
        return next((step for step, way in self.curve if way >= SOLVED), None)


def learn(
    model: Model,
    optimizer: Optimizer,
    task: Task,
    seed: int,
    training: Training,
    tell: Callable[[int, Trial], None] = lambda step, trial: None,
) -> Trial:
    """Train until the task is solved or the steps are over; `tell` hears of every look."""
    trial, gpt = Trial(optimizer.lr, seed), model.build(seed)
    optimizers, exam = optimizer.build(gpt), held_out(task)
    torch.manual_seed(seed)  # dropout, with a recipe's own size
    schedule = Cosine(warmup=min(0.5, WARMUP_STEPS / training.steps))
    began = time.perf_counter()
    for step in range(training.steps):
        optimizers.set_lr(schedule.multiplier(step, training.steps))
        batch = task.training_rows(training.rows, Draw(seed, task.variant, step))
        losses = gpt.losses(torch.from_numpy(batch.x_NT), torch.from_numpy(batch.y_NT))
        torch.stack(list(losses.values())).sum().backward()
        norm = get_total_norm([p.grad for p in gpt.parameters() if p.grad is not None])
        trial.diverged = not math.isfinite(norm.item())
        if not trial.diverged:
            optimizers.step(clipping(norm, LARGEST_NORM))
            gpt.after_step()
        if trial.diverged or (step + 1) % training.every == 0 or step + 1 == training.steps:
            trial.accuracy = answer(gpt, exam)
            trial.curve.append((step + 1, way(task.conditions(), trial.accuracy)))
            trial.seconds = time.perf_counter() - began
            tell(step + 1, trial)
        if trial.diverged or trial.way >= ENOUGH:
            break
    return trial


def held_out(task: Task) -> dict[str, Batch]:
    """Make the rows that are asked of every model, by condition."""
    return {each.name: task.asked(each.name, each.what) for each in task.conditions()}


def way(conditions: Sequence[Condition], accuracy: Mapping[str, float]) -> float:
    """How far from chance to ceiling: the mean of the conditions that are trained."""
    ways = [
        (accuracy[each.name] - each.chance) / (each.ceiling - each.chance)
        for each in conditions
        if each.trained
    ]
    return float(np.mean(ways))


@torch.inference_mode()
def answer(gpt: GPT, exam: Mapping[str, Batch]) -> dict[str, float]:
    """The share of answers that a model finds the likeliest, by condition."""
    gpt.eval()
    shares = {}
    for name, batch in exam.items():
        said_NT = gpt(torch.from_numpy(batch.x_NT)).argmax(-1).numpy()
        shares[name] = float((said_NT == batch.y_NT)[batch.y_NT != IGNORED].mean())
    gpt.train()
    return shares
