"""What a variant costs beside the plain choice, and what refuses it, found by building models.

All else is as in GPT-2 small (the recipe `gpt2`), with every part as its name alone makes it.
"""

from dataclasses import dataclass
from functools import cache

from gptlab.config import Part, variant_names
from gptlab.model.accounting import build_on_meta, cache_bytes, count_flops, count_parameters
from gptlab.model.gpt import Model
from gptlab.recipes import gpt2
from gptlab.show._slots import Slot, all_slots
from gptlab.train.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """Of a whole model: parameters, FLOPs forward per token, bytes of cache per token (bf16)."""

    parameters: float
    flops: float
    cache: float


@cache
def reference() -> Recipe:
    """GPT-2 small, of parts without further settings."""
    recipe = gpt2().resolved()
    parts = {name: getattr(recipe.model, name) for name in Model.model_fields}
    plain = [f"model.{n}={part.variant}" for n, part in parts.items() if isinstance(part, Part)]
    return recipe.override(plain)


def is_in_model(slot: Slot) -> bool:
    """Tell whether a slot is one of the model's, so that it can be built and counted."""
    return slot.path.startswith("model.")


def plain_choice(slot: Slot) -> str | None:
    """Name the variant that the reference has in this slot."""
    part = getattr(reference().model, slot.name, None)
    return part.variant if part else None


@cache
def cost(settings: tuple[str, ...]) -> Cost:
    """Count the reference with these settings."""
    model = reference().override(settings).model
    flops, caches = count_flops(model).forward, cache_bytes(model).per_token
    return Cost(count_parameters(model).total, flops, caches)


def cost_of(slot: Slot, variant: str) -> Cost | None:
    """Count what a variant costs by its name alone; None if its name alone is not enough."""
    try:
        return cost(tuple(slot.choose(variant)))
    except ValueError:
        return None


def plain_cost(slot: Slot) -> Cost:
    """Count what it is compared with: the plain choice, or the slot left empty."""
    plain = plain_choice(slot)
    return cost(tuple(slot.choose(plain)) if plain else slot.beside)


def refused_beside(slot: Slot, variant: str) -> list[str]:
    """List the settings, one variant of another slot each, that are refused beside this one."""
    return [
        f"{other.path}={name}"
        for other in all_slots().values()
        if is_in_model(other) and other.kind is not slot.kind and not _meet(slot, other)
        for name in variant_names(other.kind)
        if _is_refused(tuple(slot.choose(variant)), tuple(other.choose(name)))
    ]


def _meet(one: Slot, other: Slot) -> bool:
    """Whether choosing one chooses the other's place, so that both settings make no pair."""
    return bool(one.beside or other.beside)


@cache
def _is_refused(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if not (_builds(one) and _builds(other)):
        return False
    return not _builds(one + other)


@cache
def _builds(settings: tuple[str, ...]) -> bool:
    try:
        build_on_meta(reference().override(settings).model.but(n_layers=2))
    except ValueError:
        return False
    return True
