"""A probe of a recipe: learning rates with one seed, then the best of them with further seeds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from gptlab.model.accounting import cache_bytes, count_parameters
from gptlab.model.gpt import Model
from gptlab.probes.defaults import RATES, SEEDS
from gptlab.probes.learning import Training, Trial, learn
from gptlab.probes.tasks import Condition, Task
from gptlab.train.optimizers import Optimizer


@dataclass(frozen=True)
class Progress:
    """So many `steps` are done, of at most `most`; `what`: where it is."""

    steps: int
    most: int
    what: str

    def among(self, before: int, later: int) -> "Progress":
        """Count what was done before, and what comes later."""
        return Progress(before + self.steps, before + self.most + later, self.what)


@dataclass(frozen=True)
class Plan:
    """`rates`: learning rates that are tried, with the first of the `seeds`."""

    rates: tuple[float, ...] = RATES
    seeds: int = SEEDS
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Result:
    """What a probe found. `state`: numbers that layers remember of a row of the longest length."""

    task: str
    conditions: list[Condition]
    parameters: int
    state: int
    trials: list[Trial]
    lr: float

    @property
    def best(self) -> list[Trial]:
        """The trials of the best learning rate, a seed each."""
        return [trial for trial in self.trials if trial.lr == self.lr]

    @property
    def tried(self) -> list[Trial]:
        """The trials of the first seed, a learning rate each."""
        return sorted(
            (trial for trial in self.trials if trial.seed == self.trials[0].seed),
            key=lambda trial: trial.lr,
        )

    def accuracy(self, condition: Condition) -> float:
        """The median over seeds."""
        return median(trial.accuracy[condition.name] for trial in self.best)

    @property
    def solved(self) -> int:
        """How many seeds came nine tenths of the way."""
        return sum(trial.solved_at is not None for trial in self.best)

    @property
    def steps(self) -> int | None:
        """The median of the steps that this took, if most seeds came there."""
        found = sorted(trial.solved_at or 10**9 for trial in self.best)
        middle = found[(len(found) - 1) // 2]
        return None if middle == 10**9 else middle

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def edge(self) -> bool:
        """Whether the best learning rate is the least or the greatest of those that differ."""
        rates = [trial.lr for trial in self.tried]
        return len(rates) > 1 and self.lr in (rates[0], rates[-1]) and not self.solved


def probe(
    model: Model,
    optimizer: Optimizer,
    task: Task,
    plan: Plan,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Let a model learn a task. Raises ValueError for what cannot be built."""
    trials: list[Trial] = []
    done, most = 0, plan.training.steps * (len(plan.rates) + plan.seeds - 1)

    def run(lr: float, seed: int) -> None:
        nonlocal done, most

        def hear(step: int, trial: Trial) -> None:
            what = f"{task.variant}: lr {lr:g}, seed {seed}: {trial.way:.0%} of the way"
            tell(Progress(done + step, most, what))

        trial = learn(model, with_rate(optimizer, lr), task, seed, plan.training, hear)
        trials.append(trial)
        done += trial.curve[-1][0]
        most -= plan.training.steps - trial.curve[-1][0]

    for lr in plan.rates:
        run(lr, 0)
    best = max(trials, key=rank)
    for seed in range(1, plan.seeds):
        run(best.lr, seed)
    numbers = cache_bytes(model, element_size=4).full_context // 4
    parameters = count_parameters(model).total
    return Result(task.variant, task.conditions(), parameters, numbers, trials, best.lr)


def best_rate(
    model: Model,
    optimizer: Optimizer,
    task: Task,
    plan: Plan,
    seed: int,
    tell: Callable[[int], None] = lambda steps: None,
) -> float:
    """Find the learning rate of the plan that learns a task best; `tell` hears of steps done."""
    trials: list[Trial] = []
    for lr in plan.rates:
        before = len(trials) * plan.training.steps

        def hear(step: int, trial: Trial, before: int = before) -> None:
            tell(before + step)

        trials.append(learn(model, with_rate(optimizer, lr), task, seed, plan.training, hear))
    return max(trials, key=rank).lr


def rank(trial: Trial) -> tuple[bool, int, float]:
    """Give by what trials are chosen: one that solved the task, earlier, and ended further."""
    return trial.solved_at is not None, -(trial.solved_at or 0), trial.way


def with_rate(optimizer: Optimizer, lr: float) -> Optimizer:
    """Change the learning rate; others that an optimizer has keep their proportion to it."""
    factor = lr / optimizer.lr
    others = {
        name: value * factor
        for name in type(optimizer).model_fields
        if name.endswith("_lr") and (value := getattr(optimizer, name)) is not None
    }
    return optimizer.but(lr=lr, **others)


def find_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Sort learning rates. Raises ValueError for one that is none."""
    if not all(0 < rate < math.inf for rate in rates):
        raise ValueError(f"learning rates must be above 0, not {rates}")
    return tuple(sorted(set(rates)))
