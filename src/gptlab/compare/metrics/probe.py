"""A probe: how well an arm's parts, at the size of a probe, learn a small task.

They learn it with the seed of the run, at the best of a few learning rates, which each arm tries
with a seed that nobody reports. What counts is the accuracy in the last condition, the hardest one,
whether its rows were trained or not.
"""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from gptlab.compare.metrics._kept import Hear, Kept
from gptlab.compare.texts import Facts
from gptlab.config import Config, differences
from gptlab.model.gpt import Model
from gptlab.probes.defaults import RATES, STEPS
from gptlab.probes.grid import Plan, best_rate, with_rate
from gptlab.probes.learning import Training, learn
from gptlab.probes.sizing import model_for
from gptlab.probes.tasks import HELD_OUT, Task
from gptlab.runs.folder import RunFolder
from gptlab.train.optimizers import Optimizer
from gptlab.train.recipe import Recipe

TUNING_SEED = HELD_OUT + 1  # no recipe can have it
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]

_found: dict[str, float] = {}  # learning rates, which the runs of an arm have in common


class Probe(Kept):
    """`task`: one of `gptlab probe`. `steps`: of a trial, at most. `rates`: that each arm tries.

    `own_size`: keep the arm's widths, depth and windows.
    """

    title = "accuracy at"
    unit = ""
    better = "higher"
    of_weights = False

    margin: PositiveFloat | None = 0.05
    task: Task
    steps: PositiveInt = STEPS
    rates: Rates = RATES
    own_size: bool = False

    @field_validator("task")
    @classmethod
    def _has_room(cls, task: Task) -> Task:
        task.conditions()
        return task

    @property
    def label(self) -> str:
        usual = Probe(task=type(self.task)(), margin=self.margin)
        changed = [f"{path}={value}" for path, _, value in differences(usual, self)]
        return f"{self.variant}({','.join([self.task.variant, *changed]).replace(' ', '')})"

    @property
    def heading(self) -> str:
        last = self.task.conditions()[-1]
        return (
            f"{self.title} {self.task.variant}, {last.name} (chance {last.chance:.3g}, ceiling "
            f"{last.ceiling:.3g})"
        )

    def check(self, recipe: Recipe, facts: Facts) -> None:
        self._learner(recipe).model.build()

    def note(self, recipe: Recipe, reference: Recipe) -> str:
        if self._learner(recipe) != self._learner(reference):
            return ""
        return "is the same as its base at the size of a probe, which says nothing of it"

    def compute(self, run: RunFolder, hear: Hear) -> float | None:
        recipe = Recipe.parse(run.config_tree())
        learner, plan = self._learner(recipe), Plan(self.rates, training=Training(self.steps))
        tuning = len(self.rates) * self.steps
        most = tuning + self.steps
        lr = _best_rate(learner, plan, lambda steps: hear(steps, most))
        trial = learn(
            learner.model,
            with_rate(learner.optimizer, lr),
            self.task,
            recipe.seed,
            plan.training,
            lambda step, trial: hear(tuning + step, most),
        )
        return None if trial.diverged else trial.accuracy[self.task.conditions()[-1].name]

    def _learner(self, recipe: Recipe) -> "_Learner":
        return _Learner(
            model=model_for(self.task, recipe, [], self.own_size),
            optimizer=with_rate(recipe.optimizer, 1.0),
            task=self.task,
        )


class _Learner(Config):
    """What learns, whatever its learning rate, and what it learns."""

    model: Model
    optimizer: Optimizer
    task: Task


def _best_rate(learner: _Learner, plan: Plan, tell: Callable[[int], None]) -> float:
    """Try the learning rates, unless another run of the same arm has done so."""
    key = f"{plan} {learner.to_yaml()}"
    if key not in _found:
        _found[key] = best_rate(
            learner.model, learner.optimizer, learner.task, plan, TUNING_SEED, tell
        )
    return _found[key]
