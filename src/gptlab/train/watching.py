"""Where the time of a training step goes: real steps of a recipe, watched by torch's profiler.

The parts of the model, the optimizer and the batch are named ranges. A node of the backward pass
has the number of the operation that made it, and so belongs to the part in which that was called.
What is in no range is the clipping of the gradient, if it stands between the backward pass and the
optimizer, and else the rest: python between the parts, and reading the loss.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._pytree import tree_leaves

from gptlab.model.block import Block
from gptlab.train.loop import take_step
from gptlab.train.session import Session

RANGE = "gptlab: "
NODE = "autograd::engine::evaluate_function: "
BETWEEN = "clipping"
FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Watched:
    """Seconds in a step by part and by `forward` or `backward`; what is neither is `forward`.

    `bytes`: of what went into and came out of each part, in the forward pass of a step.
    """

    seconds: dict[str, dict[str, float]]
    bytes: dict[str, int]

    @property
    def whole(self) -> float:
        """The seconds of the whole step."""
        return sum(sum(ways.values()) for ways in self.seconds.values())


def watch(s: Session, n_steps: int, each: Callable[[], None]) -> Watched:
    """Take steps of a session while they are watched; `each` is called after every one."""
    on_gpu = s.device.type == "cuda"
    traffic: dict[str, int] = defaultdict(int)
    undo = _name_ranges(s, traffic)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it writes to the terminal
    activities = [ProfilerActivity.CPU]
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    wall = 0.0
    try:
        with profile(activities=activities) as watching:
            for _ in range(n_steps):
                began = time.perf_counter()
                with record_function(f"{RANGE}step"):
                    take_step(s)
                if on_gpu:
                    torch.cuda.synchronize()
                wall += time.perf_counter() - began
                each()
    finally:
        for restore in undo:
            restore()
    seconds = attribute(list(watching.events() or []), on_gpu)
    if on_gpu:  # kernels run beside the steps: the rest is the time in which none did
        seconds["rest"] = {FORWARD: 0.0}
        seconds["rest"][FORWARD] = wall - sum(sum(ways.values()) for ways in seconds.values())
    return Watched(
        {part: {way: x / n_steps for way, x in ways.items()} for part, ways in seconds.items()},
        {part: size // n_steps for part, size in traffic.items()},
    )


def attribute(events: list[FunctionEvent], on_gpu: bool = False) -> dict[str, dict[str, float]]:
    """Add up the seconds of each part; on a GPU those of its kernels, which run by themselves."""

    def duration(event: FunctionEvent) -> float:
        return (event.device_time_total if on_gpu else event.cpu_time_total) / 1e6

    events = sorted(events, key=lambda event: event.time_range.start)
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    maker: dict[int, str] = {}  # the part that made each node: the last operation of its number
    part, is_after_backward = "rest", False
    for event in events:
        owner = _range_of(event.cpu_parent)
        if event.name.startswith(NODE):
            part = maker.get(event.sequence_nr, part)  # a sum of gradients has no number
            seconds[part][BACKWARD] += duration(event)
            seconds["step"][FORWARD] -= duration(event)
            is_after_backward = True
        elif event.name.startswith(RANGE):
            name = event.name.removeprefix(RANGE)
            seconds[name][FORWARD] += duration(event)
            if owner:
                seconds[owner][FORWARD] -= duration(event)
            is_after_backward = False
        elif owner == "step" and _is_outermost(event) and is_after_backward:
            seconds[BETWEEN][FORWARD] += duration(event)
            seconds["step"][FORWARD] -= duration(event)
        elif owner and event.sequence_nr >= 0:
            maker[event.sequence_nr] = owner
    for way, rest in seconds.pop("step").items():  # backward: of adding up the losses
        seconds["rest"][way] += rest
    return {part: dict(ways) for part, ways in seconds.items()}


def _range_of(event: FunctionEvent | None) -> str | None:
    """Name the innermost range around an event; None inside of a backward pass."""
    while event is not None and not event.name.startswith(RANGE):
        if event.name.startswith(NODE):
            return None
        event = event.cpu_parent
    return event and event.name.removeprefix(RANGE)


def _is_outermost(event: FunctionEvent) -> bool:
    return event.cpu_parent is not None and event.cpu_parent.name.startswith(RANGE)


def _name_ranges(s: Session, traffic: dict[str, int]) -> list[Callable[[], None]]:
    """Make ranges of the parts of a session; give what takes each of them away again."""
    methods: list[tuple[Any, str, str]] = [
        (s, "portions", "batch"),
        (s.model, "losses", "embedding"),  # and what else stands before, between and after blocks
        (s.model.head, "losses", "head"),
        (s.optimizers, "step", "optimizer"),
        (s.model, "after_step", "optimizer"),
        *((module, "forward", part) for part, module in _parts(s)),
    ]
    undo = []
    for owner, method, part in methods:
        setattr(owner, method, _ranged(part, getattr(owner, method), traffic))
        undo.append(partial(delattr, owner, method))
    return undo


def _parts(s: Session) -> Iterator[tuple[str, nn.Module]]:
    """Go through the modules that are timed; of norms those that stand in the stream."""
    gpt, norm = s.model, type(s.recipe.model.norm.build(1))
    yield "embedding", gpt.embedding
    if s.recipe.model.multi_token:
        yield "multi_token", gpt.multi_token
    around: list[nn.Module] = [gpt.ends]
    for block in gpt.blocks:
        assert isinstance(block, Block)
        yield from (("attention", block.attention), ("mlp", block.mlp))
        yield "residual", block.residual
        around.append(block.residual)
    for module in around:
        yield from (("norm", inner) for inner in module.modules() if type(inner) is norm)


def _ranged(part: str, function: Callable[..., Any], traffic: dict[str, int]) -> Callable[..., Any]:
    """Put a range around a function, and count the bytes that go in and come out."""

    @wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        with record_function(RANGE + part):
            result = function(*given, **named)
        for x in tree_leaves((given, named, result)):
            if isinstance(x, Tensor) and not isinstance(x, nn.Parameter):
                traffic[part] += x.nbytes
        return result

    return call
