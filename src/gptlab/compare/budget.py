"""Budgets: every arm gets what the base has, solved for by counts of models that are never built.

What is changed for it is as little as will do: the inner width of the MLP, else the width of the
stream, else the number of layers; for FLOPs and time, the number of steps.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations
from typing import Any

from gptlab.compare.study import Budget
from gptlab.config import differences
from gptlab.model.accounting import count_flops, count_parameters
from gptlab.model.gpt import Model
from gptlab.train.recipe import Recipe

TOLERANCE = 0.01
TIME_TOLERANCE = 0.05  # of what runs really took: no two runs of a recipe take the same
SIZES = (r"model\.mlp\..*\bd_ff", r"model\.d_model", r"model\.n_layers")  # least intrusive first
REACH = 256  # how far a size that can be built is looked for
Count = Callable[[int], int | None]


@dataclass(frozen=True)
class Matched:
    """How an arm got its budget: `target` is the base's, `reached` the arm's own.

    `changes`: what was solved for, as path, value before, value after.
    """

    budget: Budget
    target: float
    reached: float
    changes: tuple[tuple[str, Any, Any], ...]

    @property
    def off(self) -> float:
        """Give the relative distance from the target."""
        return self.reached / self.target - 1


@dataclass(frozen=True)
class Counts:
    """What an arm is given, as far as it is known without a machine."""

    parameters: int
    non_embedding: int
    tokens: int
    steps: int
    flops_per_token: float
    training_flops: float


def counts_of(recipe: Recipe) -> Counts:
    """Count a recipe whose vocabulary size is filled in."""
    steps, flops = recipe.total_steps(), _flops_per_token(recipe.model)
    tokens = steps * recipe.train.batch_tokens
    total, non_embedding = _sizes(recipe.model)
    return Counts(total, non_embedding, tokens, steps, flops, tokens * flops)


def match(arm: Recipe, base: Recipe, budget: Budget) -> tuple[Recipe, Matched]:
    """Solve an arm for the base's budget; time is measured, so that `match_time` does it later.

    Raises ValueError, saying how near it comes, where one percent is out of reach.
    """
    target = counts_of(base)
    if budget == "params":
        matched = _of_size(arm, target.non_embedding, _fixed_by(arm, base))
        matched = with_steps(matched, target.tokens / matched.train.batch_tokens)
        return matched, _checked(
            arm, matched, budget, target.non_embedding, counts_of(matched).non_embedding
        )
    per_step = arm.train.batch_tokens
    if budget == "flops":
        per_step *= _flops_per_token(arm.model)
        matched = with_steps(arm, target.training_flops / per_step)
        reached = counts_of(matched).training_flops
        return matched, _checked(arm, matched, budget, target.training_flops, reached)
    matched = with_steps(arm, target.tokens / per_step)
    reached = counts_of(matched).tokens
    return matched, _checked(arm, matched, "tokens", target.tokens, reached)


def match_time(arm: Recipe, seconds: float, seconds_per_step: float) -> tuple[Recipe, Matched]:
    """Give an arm, of which a step was measured, the steps that fit into the base's time."""
    matched = with_steps(arm, seconds / seconds_per_step)
    reached = matched.total_steps() * seconds_per_step
    return matched, _checked(arm, matched, "time", seconds, reached)


def with_steps(recipe: Recipe, steps: float) -> Recipe:
    """Lay a recipe out over the nearest number of steps."""
    return recipe.but(train=recipe.train.but(steps=max(1, round(steps)), tokens=None))


def _checked(
    arm: Recipe, matched: Recipe, budget: Budget, target: float, reached: float
) -> Matched:
    result = Matched(budget, target, reached, tuple(differences(arm, matched)))
    if abs(result.off) > TOLERANCE:
        solved = ", ".join(f"{path}={value}" for path, _, value in result.changes)
        raise ValueError(
            f"it cannot be matched in {budget}: the nearest is {reached:,.4g} against "
            f"{target:,.4g} ({result.off:+.2%}){f' with {solved}' if solved else ''}; use another "
            "--match, or sizes that leave more room"
        )
    return result


def _of_size(arm: Recipe, target: int, fixed: set[str]) -> Recipe:
    """Give an arm so many parameters outside of tables, as nearly as one or two sizes allow."""

    def off(recipe: Recipe) -> float:
        return abs(_sizes(recipe.model)[1] / target - 1)

    def solved(recipe: Recipe, path: str) -> Recipe:
        value = solve(counter(recipe, path), _start(recipe, path), target)
        return recipe.override([f"{path}={value}"])

    best, paths = arm, [path for path in _paths(arm) if path not in fixed]
    for path in paths:
        if off(best) > TOLERANCE:
            best = min(best, solved(arm, path), key=off)
    for rough, fine in combinations(reversed(paths), 2):
        if off(best) > TOLERANCE:
            best = min(best, solved(solved(arm, rough), fine), key=off)
    return best


def counter(arm: Recipe, path: str) -> Count:
    """Count the parameters outside of tables as a function of one size; None: it does not fit."""

    @cache
    def count(value: int) -> int | None:
        try:
            return _sizes(arm.override([f"{path}={value}"]).model)[1]
        except ValueError:
            return None

    return count


def solve(count: Count, start: int, target: int) -> int:
    """Find the size whose count is nearest to a target, a multiple of 8 if it is near enough.

    Where no other size can be built anywhere near, it stays at `start`.
    """
    a = _buildable(count, start)
    b = _buildable(count, start + max(8, start // 4))
    if a is None or b is None:
        return start
    for _ in range(6):
        at_a, at_b = count(a), count(b)
        assert at_a is not None
        assert at_b is not None
        if at_a == at_b:
            break
        guess = max(1, round(b + (target - at_b) * (b - a) / (at_b - at_a)))
        further = _buildable(count, guess)
        if further is None:
            break
        a, b = b, further
    for step in (8, 1):
        near = [v for v in range(b - 2 * step, b + 2 * step + 1) if v > 0 and v % step == 0]
        sizes = [(abs(c - target), v) for v in [*near, b] if (c := count(v)) is not None]
        least, best = min(sizes)
        if least <= TOLERANCE * target:
            return best
    return best


def _buildable(count: Count, value: int) -> int | None:
    """Find the nearest size that fits the rest of the model; None: none within reach."""
    offsets = chain([0], *((-away, away) for away in range(1, REACH)))
    fitting = (v for away in offsets if (v := value + away) > 0 and count(v) is not None)
    return next(fitting, None)


def _paths(arm: Recipe) -> Iterator[str]:
    paths = _leaves("model", arm.model.model_dump(mode="json"))
    for size in SIZES:
        yield from (path for path in paths if re.fullmatch(size, path))


def _leaves(path: str, tree: Any) -> list[str]:
    if not isinstance(tree, dict):
        return [path]
    return [leaf for name, below in tree.items() for leaf in _leaves(f"{path}.{name}", below)]


def _start(arm: Recipe, path: str) -> int:
    value: Any = arm
    for name in path.split("."):
        value = getattr(value, name)
    return value or 2 * arm.model.d_model


def _fixed_by(arm: Recipe, base: Recipe) -> set[str]:
    """Name the sizes in which the arm is meant to differ: they are not taken back."""
    return {
        path
        for path, was, is_now in differences(base, arm)
        if isinstance(is_now, int) and isinstance(was, int | None)
    }


@cache
def _sizes_of(model_yaml: str) -> tuple[int, int]:
    parameters = count_parameters(Model.from_yaml(model_yaml))
    return parameters.total, parameters.non_embedding


def _sizes(model: Model) -> tuple[int, int]:
    return _sizes_of(model.to_yaml())


@cache
def _flops_of(model_yaml: str) -> float:
    return count_flops(Model.from_yaml(model_yaml)).training


def _flops_per_token(model: Model) -> float:
    return _flops_of(model.to_yaml())
