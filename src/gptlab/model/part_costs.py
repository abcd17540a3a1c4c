"""What the parts of a model must compute and read at least, counted as `accounting.py` counts."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from gptlab.model.accounting import (
    FLOAT32_BYTES,
    build_on_meta,
    cache_bytes,
    head_flops,
    part_of,
    product_flops,
)
from gptlab.model.gpt import Model
from gptlab.parts.attention import Mixer
from gptlab.parts.layers import Linear


@dataclass(frozen=True)
class PartCost:
    """A part, in all layers.

    `flops`: of training on a token. `weights`: numbers in the matrices that it multiplies with.
    """

    flops: float
    weights: float


def cost_per_part(model: Model) -> dict[str, PartCost]:
    """Count the products of each part; their FLOPs add up to those of training."""
    gpt = build_on_meta(model)
    head = head_flops(gpt)
    owned: dict[str, list[nn.Module]] = {}
    for name, module in gpt.named_modules():
        if isinstance(module, Linear | Mixer):
            owned.setdefault(part_of(name), []).append(module)
    owned.pop("head", None)
    costs = {part: _cost(modules, model.context_length) for part, modules in owned.items()}
    if model.multi_token:
        extra, times = costs["multi_token"], model.multi_token.depth
        costs["multi_token"] = PartCost(extra.flops + times * 3 * head, extra.weights)
    return costs | {"head": PartCost(3 * head, head / 2)}


def decode_bytes(model: Model, T: int) -> float:
    """Count the bytes that writing a token after T must read, in float32: matrices, and caches."""
    costs = cost_per_part(model)
    weights = sum(cost.weights for part, cost in costs.items() if part != "multi_token")
    remembered = cache_bytes(model.but(context_length=T), FLOAT32_BYTES).full_context
    return FLOAT32_BYTES * weights + remembered


def _cost(modules: Iterable[nn.Module], T: int) -> PartCost:
    modules = list(modules)
    scores = sum(module.score_flops(T) for module in modules if isinstance(module, Mixer))
    weights = sum(m.weight.numel() * m.used for m in modules if isinstance(m, Linear))
    return PartCost(3 * (product_flops(modules) + scores), weights)
