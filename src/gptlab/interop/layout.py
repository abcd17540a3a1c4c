"""Rotary layouts: heads whose pairs are (2i, 2i + 1) become heads whose pairs are (i, i + R/2).

A score does not change if the dimensions of queries and keys are reordered alike: so the rows of
both projections are, their biases, and what norms of queries and keys multiply and add.
"""

import re

import torch
from torch import Tensor

from gptlab.interop.explicit import per_layer
from gptlab.model.gpt import Model
from gptlab.parts.attention.grouped_query import GroupedQuery
from gptlab.parts.positions.rotary import Rotary

REORDERED = re.compile(r"blocks\.(\d+)\.attention\.(query|key)(_norm)?\.")


def as_in(theirs: Model, ours: Model, name: str, tensor: Tensor) -> Tensor:
    """Bring a parameter of our model into the rotary layout that theirs has in this layer."""
    match = REORDERED.match(name)
    if not match:
        return tensor
    attention = per_layer(ours)[int(match[1])]
    here, there = _rotary(ours, int(match[1])), _rotary(theirs, int(match[1]))
    if not (here and there) or here.layout == there.layout:
        return tensor
    assert isinstance(attention, GroupedQuery)
    d_head = attention.d_head or ours.d_model // attention.n_heads
    order = interleaved_first(d_head, here)
    if here.layout == "half":
        order = order.argsort()
    return tensor.unflatten(0, (-1, d_head))[:, order].flatten(0, 1)


def interleaved_first(d_head: int, rotary: Rotary) -> Tensor:
    """Give the dimensions in which the first members of all interleaved pairs come first."""
    R = d_head if rotary.proportional else int(d_head * rotary.fraction)
    i = torch.arange(d_head)
    return torch.cat([i[:R:2], i[1:R:2], i[R:]])


def _rotary(model: Model, layer: int) -> Rotary | None:
    positions = getattr(per_layer(model)[layer], "positions", None) or model.positions
    return positions if isinstance(positions, Rotary) else None
