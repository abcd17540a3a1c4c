"""Arms: the recipes that a study compares, before and after budgets are made equal."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import torch

from gptlab import machine
from gptlab.compare.budget import Matched, match
from gptlab.compare.study import ALL, BASE, Study
from gptlab.compare.texts import Facts, opened
from gptlab.config import differences
from gptlab.model.accounting import check_fits
from gptlab.train.compiling import should_compile
from gptlab.train.kernels import BY_PACKAGE, choose_kernels
from gptlab.train.precision import choose_precision
from gptlab.train.recipe import Recipe
from gptlab.train.session import Say

ONLY = ""  # the scale of a study without scales


@dataclass(frozen=True)
class Arm:
    """A recipe under a name. `variants`: those it is made of. `facts`: what its text is.

    `matched`: what was solved for, so that the arm has the base's budget; None: it is on its own.
    `reference`: whether the others are compared with it.
    """

    name: str
    scale: str
    variants: tuple[str, ...]
    recipe: Recipe
    facts: Facts
    matched: Matched | None
    reference: bool


def arms_of(study: Study, say: Say) -> list[Arm]:
    """Make the arms of a study, the reference of each scale first.

    Raises ValueError for variants that do not work, change nothing, or cannot be matched.
    """
    bases = {
        scale: study.base.override([*study.settings, *settings])
        for scale, settings in (study.scales or {ONLY: ()}).items()
    }
    for base in bases.values():
        for _, of in _design(study):  # what is wrong in itself is said before a text is looked for
            _combined(study, base, of)
    arms = []
    for scale, base in bases.items():
        arms += _at_scale(study, scale, for_study(base, say))
    return arms


def _at_scale(study: Study, scale: str, base: Recipe) -> list[Arm]:
    recipes = {name: (of, _combined(study, base, of)) for name, of in _design(study)}
    arms = []
    start, _ = opened(base)
    for name, (of, recipe) in recipes.items():
        try:
            recipe, facts = opened(recipe)
            recipe, matched = match(recipe, start, study.match)
            check_fits(recipe.model, machine.total_memory())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        arms.append(Arm(name, scale, of, recipe, facts, matched, name == reference_of(study)))
    _check_different(arms)
    return arms


def reference_of(study: Study) -> str:
    """Name the arm that the others are compared with."""
    return ALL if study.design == "leave_one_out" else BASE


def _design(study: Study) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give every arm's name and the variants it is made of."""
    names = tuple(study.variants)
    if study.design == "leave_one_out":
        if len(names) < 2:
            raise ValueError("leave-one-out needs two variants or more: name another --variant")
        yield ALL, names
        yield from ((f"no-{out}", tuple(n for n in names if n != out)) for out in names)
        yield BASE, ()
        return
    yield BASE, ()
    most = len(names) if study.design == "factorial" else 1
    for size in range(1, most + 1):
        yield from (("+".join(each), each) for each in combinations(names, size))


def _combined(study: Study, base: Recipe, names: tuple[str, ...]) -> Recipe:
    for name in names:
        base = study.changed(base, name)
    return base


def for_study(base: Recipe, say: Say) -> Recipe:
    """Fix what a machine would choose anew each time, and leave out what no number depends on."""
    train = base.train
    for setting in ("max_seconds", "init_from"):
        if getattr(train, setting) is not None:
            raise ValueError(
                f"train.{setting}={getattr(train, setting)}: the runs of a study start from "
                f"initial values and end by steps; use train.{setting}=null"
            )
    device = torch.device(machine.choose_device(train.device, "train.device"))
    kernels = choose_kernels(train.kernels, device)
    compiled = should_compile(opened(base)[0], device, say)
    steps = base.total_steps()
    quiet = {"sample_tokens": 0, "sample_prompt": None, "tensorboard": False, "wandb": None}
    fixed = {
        "device": device.type,
        "precision": choose_precision(train.precision, device, say),
        "kernels": "liger" if BY_PACKAGE in kernels else "auto" if kernels else "torch",
        "compile": "on" if compiled else "off",
        "steps": steps,
        "tokens": None,
    }
    return base.but(train=train.but(**quiet, **fixed, keep_last=1))


def _check_different(arms: list[Arm]) -> None:
    for number, arm in enumerate(arms):
        for other in arms[:number]:
            if not differences(arm.recipe, other.recipe):
                what = f"is the same as {other.name}" if other.name != BASE else "changes nothing"
                raise ValueError(f"variant {arm.name} {what}: leave it out, or let it differ")
