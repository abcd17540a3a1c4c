"""A study: a question about variants of a recipe, asked before anything is run."""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gptlab.compare.identity import determining
from gptlab.compare.metrics import Metric
from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.scales import settings_of
from gptlab.compare.shorthand import Metrics, Seeds, settings_in, tuning_in
from gptlab.config import Config, differences
from gptlab.recipes import open_recipe
from gptlab.runs.folder import check_name
from gptlab.train.recipe import Recipe

Budget = Literal["params", "flops", "tokens", "time"]
Design = Literal["one_at_a_time", "factorial", "leave_one_out"]

NOISE = "noise"  # the folder of noise floors, beside those of studies
BASE, ALL = "base", "all"  # arms that every such design has: of no variant, of all of them
ARM_NAME = re.compile(r"[A-Za-z0-9_-]{1,24}")
FROM_A_RECIPE = ("model", "tokenizer", "batching", "optimizer", "schedule")
FREE_IN_TRAIN = ("batch_tokens", "micro_batch_tokens", "grad_clip")


def _opened(base: Any) -> Any:
    return open_recipe(base) if isinstance(base, str) else base


def _settings_or_recipe(variant: Any) -> Any:
    """Choose by its form, so that a mistake in one of them is not told of both."""
    if isinstance(variant, str):
        return settings_in(variant)
    if isinstance(variant, list | tuple):
        return tuple(map(str, variant))
    return variant if isinstance(variant, Recipe) else Recipe.parse(variant)


class Tuning(Config):
    """Which learning rates each arm tries, on seeds that are not reported.

    `lr`: what `optimizer.lr` is; null: a quarter, a half, one, two and four times what the arm has.
    `seeds`: how many runs each of them gets. An optimum at the edge of the range extends it, for
    every arm alike, at most `extensions` times.
    """

    lr: tuple[PositiveFloat, ...] | None = None
    seeds: PositiveInt = 1
    extensions: NonNegativeInt = 2

    @field_validator("lr")
    @classmethod
    def _is_a_range(cls, lr: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if lr is not None and len(set(lr)) < 2:
            raise ValueError("two learning rates at least are needed to choose one")
        return lr

    @property
    def step(self) -> float:
        """The factor from a learning rate to the next: of several, the least."""
        values = self.values(1.0)
        return min(high / low for low, high in pairwise(values))

    def values(self, own: float) -> list[float]:
        """Give the learning rates, lowest first; `own` is the arm's."""
        return sorted(set(self.lr or (own * factor for factor in (0.25, 0.5, 1.0, 2.0, 4.0))))


class Study(Config):
    """Variants of a base, what they are given, and what is measured.

    `base`: a recipe, or the name of one, a config file or a run folder. `settings` change it.
    `variants`: by name, settings as `path.to.setting=value`; the first may be a recipe in place of
    the base, whose model, tokenizer, batching, optimizer and schedule are taken, never its text,
    seed or length. `design`: which arms they make: each variant alone; `factorial`, every
    combination; `leave_one_out`, all of them together, and all but one.
    `seeds`: numbers of the runs of each arm, the same for all arms.
    `match`: what is made equal: non-embedding parameters, training FLOPs, tokens, or time on this
    machine. `tune`: null: the base's learning rate for all. `scales`: by name, settings that make
    the base another size; every arm runs at every one.
    `metrics`: the first is the one that decides, and that tuning looks at.
    `question`: in words, for the reports; empty: made of all this.
    Short forms are those of the command line: `seeds: 5`, `tune: lr`, `scales: nano,micro`.
    """

    name: str
    question: str = ""
    base: Annotated[Recipe, BeforeValidator(_opened)]
    settings: tuple[str, ...] = ()
    variants: Annotated[dict[str, tuple[str, ...] | Recipe], Field(min_length=1)]
    design: Design = "one_at_a_time"
    seeds: Seeds = (0, 1, 2)
    match: Budget = "tokens"
    tune: Annotated[Tuning | None, BeforeValidator(tuning_in)] = None
    scales: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    metrics: Metrics = (BitsPerByte(),)

    @field_validator("name")
    @classmethod
    def _is_a_plain_name(cls, name: str) -> str:
        check_name(name)
        if name == NOISE:
            raise ValueError(f"a study cannot be called {NOISE!r}: noise floors are kept there")
        return name

    @field_validator("settings")
    @classmethod
    def _change_the_base(cls, settings: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "base" in info.data:
            info.data["base"].override(settings)
        return settings

    @field_validator("variants", mode="before")
    @classmethod
    def _one_setting_is_a_list(cls, variants: Any) -> Any:
        if not isinstance(variants, dict):
            return variants
        return {name: _settings_or_recipe(x) for name, x in variants.items()}

    @field_validator("variants")
    @classmethod
    def _have_names_of_their_own(cls, variants: dict[str, Any]) -> dict[str, Any]:
        for name in variants:
            if not ARM_NAME.fullmatch(name) or name in (BASE, ALL):
                raise ValueError(
                    f"a variant cannot be called {name!r}: use 1 to 24 of the characters "
                    f"A-Z a-z 0-9 _ -, and neither {BASE!r} nor {ALL!r}"
                )
        return variants

    @field_validator("scales", mode="before")
    @classmethod
    def _are_known_by_name(cls, scales: Any, info: ValidationInfo) -> Any:
        names = list(map(str.strip, scales.split(","))) if isinstance(scales, str) else scales
        if not isinstance(names, list | tuple):
            return names
        if not {"base", "settings"} <= info.data.keys():
            return {}  # what is wrong with them is said of them
        base = info.data["base"].override(info.data["settings"])
        return {str(size): settings_of(base, str(size)) for size in names}

    @field_validator("scales")
    @classmethod
    def _have_plain_names(cls, scales: dict[str, Any]) -> dict[str, Any]:
        for name in scales:
            if not ARM_NAME.fullmatch(name):
                raise ValueError(
                    f"a size cannot be called {name!r}: use 1 to 24 of the characters "
                    "A-Z a-z 0-9 _ -"
                )
        return scales

    @field_validator("metrics")
    @classmethod
    def _decide_something(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if not metrics:
            raise ValueError("name one metric at least: the first decides")
        labels = [metric.label for metric in metrics]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:
            raise ValueError(f"{twice} stands twice: leave one of them out")
        return metrics

    @model_validator(mode="after")
    def _is_tuned_by_its_runs(self) -> Self:
        first = self.metrics[0]
        if self.tune and not first.of_weights:
            raise ValueError(
                f"tune: {first.label} is the same at every learning rate of a run; put another "
                "metric first, such as bits_per_byte"
            )
        return self

    @field_validator("seeds")
    @classmethod
    def _are_different_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands twice: the same run twice is one run")
        return seeds

    def extends(self, other: "Study") -> bool:
        """Tell whether this asks all that another does: seeds and metrics are not the question."""
        mine, its = self._asks(), other._asks()
        variants, its_variants = mine.pop("variants"), its.pop("variants")
        return mine == its and its_variants.items() <= variants.items()

    def _asks(self) -> dict[str, Any]:
        beside = {"name", "question", "base", "settings", "seeds", "metrics"}
        base = self.base.override(self.settings).but(seed=0)
        return self.model_dump(mode="json", exclude=beside) | {"base": determining(base)}

    def in_words(self) -> str:
        """Say what is asked."""
        return self.question or _asked(self)

    def measured_of(self, role: Literal["tuning", "report"]) -> tuple[Metric, ...]:
        """Give the metrics of a run: of one that tunes, none that is computed but to decide."""
        first, *others = self.metrics
        return (first, *(x for x in others if role == "report" or not x.is_computed))

    def changed(self, recipe: Recipe, name: str) -> Recipe:
        """Apply a variant to the base, or to what other variants have made of it."""
        variant = self.variants[name]
        settings: tuple[str, ...] = ()
        if isinstance(variant, Recipe):
            whole: Recipe | None = variant
        elif variant and "=" not in variant[0]:
            whole, settings = open_recipe(variant[0]), variant[1:]
        else:
            whole, settings = None, variant
        if whole is not None:
            recipe = recipe.but(**{part: getattr(whole, part) for part in FROM_A_RECIPE})
        try:
            after = recipe.override(settings)
            _check_shared(recipe, after)
        except ValueError as error:
            raise ValueError(f"variant {name}: {error}") from None
        return after


def _asked(study: Study) -> str:
    """Make a question of a study: what its variants do, for what, of what, given what."""
    names = list(study.variants)
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    alone = f"What do {listed} do, each alone," if len(names) > 1 else f"What does {listed} do"
    asked = {
        "one_at_a_time": alone,
        "factorial": f"What do {listed} do, alone and together,",
        "leave_one_out": f"Which of {listed} carry what they do together",
    }[study.design]
    same = {"params": "parameters", "flops": "FLOPs"}.get(study.match, study.match)
    return f"{asked} for {study.metrics[0].title} of {study.base.name}, given the same {same}?"


def _check_shared(before: Recipe, after: Recipe) -> None:
    """Raise ValueError for a change of what all arms of a study share."""
    for path, was, is_now in differences(before, after):
        section, _, setting = path.partition(".")
        if section in FROM_A_RECIPE or (section == "train" and setting in FREE_IN_TRAIN):
            continue
        raise ValueError(
            f"{path}={is_now} (the base has {was}) is the same for all arms of a "
            "study, or they could not be compared; leave it out, or give it to the base"
        )


def budgets() -> tuple[str, ...]:
    """Name what can be made equal."""
    return get_args(Budget)
