"""Measures the steps of a recipe, part by part, beside what the machine can do at most.

The limit of a part is what its products take at the speed of a large product on this machine, and
what its bytes take at the speed of its memory. Bytes are those that must move at least, if nothing
stays in a cache: matrices, and what goes into and comes out of the part.
"""

import statistics
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import Progress

from gptlab import machine
from gptlab.generate.generator import generate_tokens
from gptlab.model.accounting import FLOAT32_BYTES
from gptlab.model.part_costs import PartCost, cost_per_part, decode_bytes
from gptlab.train.loop import take_step
from gptlab.train.recipe import Recipe
from gptlab.train.rehearsal import rehearse
from gptlab.train.session import Session
from gptlab.train.watching import BACKWARD, BETWEEN, FORWARD, Watched, watch

SECONDS = 3.0  # of steps, watched and not
FEWEST, MOST = 3, 50
NEW_TOKENS = 64
PASSES = 3  # forward, and backward for the inputs and for the weights
ONCE = (BETWEEN, "optimizer", "rest")  # in a step, however many portions it has


@dataclass(frozen=True)
class Limits:
    """What was measured of the machine: FLOPs and bytes per second."""

    peak_flops: float
    bandwidth: float

    @classmethod
    def of(cls, s: Session) -> Self:
        """Measure them in the format and on the device of a session."""
        device = s.device.type
        return cls(machine.peak_flops(device, s.precision), machine.memory_bandwidth(device))


@dataclass(frozen=True)
class PartTime:
    """A part of a step, in all layers: seconds, and what it must do at least.

    `of_peak`: its FLOPs, as a fraction of what the machine computes in that time. `of_bandwidth`:
    its bytes, likewise.
    """

    forward: float
    backward: float
    share: float
    flops: float
    bytes: float
    of_peak: float
    of_bandwidth: float


def measure(recipe: Recipe) -> dict[str, Any]:
    """Take steps, some of them watched, and write some tokens; collect what was found."""
    say = Console(stderr=True, soft_wrap=True)
    with Progress(console=say, transient=True, disable=not say.is_terminal) as progress:
        bar = progress.add_task("measuring the machine", total=None)
        s = rehearse(recipe, lambda text: print(text, file=sys.stderr))
        limits = Limits.of(s)
        progress.update(bar, description="the first steps")
        take_step(s)
        n_steps = min(MOST, max(FEWEST, round(SECONDS / 2 / _seconds_of_step(s))))
        progress.update(bar, description="steps", total=2 * n_steps)
        times = []
        for _ in range(n_steps):
            times.append(_seconds_of_step(s))
            progress.advance(bar)
        watched = watch(s, n_steps, lambda: progress.advance(bar))
        progress.update(bar, description="generating", total=None)
        decoding = measure_decoding(s, limits)
    portions = recipe.batch_size() // recipe.micro_batch_size()
    parts = part_times(s, watched, statistics.median(times), portions, limits)
    seconds = sum(part.forward + part.backward for part in parts.values())
    flops = sum(part.flops for part in parts.values())
    return {
        "name": recipe.name,
        "device": s.device.type,
        "cpu": machine.cpu_name(),
        "precision": s.precision,
        "threads": torch.get_num_threads(),
        **asdict(limits),
        "step": {
            "tokens": recipe.train.batch_tokens,
            "portions": portions,
            "seconds": seconds,
            "tokens_per_second": recipe.train.batch_tokens / seconds,
            "seconds_watched": watched.whole,
            "steps": n_steps,
            "of_peak": flops / seconds / limits.peak_flops,
        },
        "parts": {name: asdict(part) for name, part in parts.items()},
        "decoding": decoding,
    }


def part_times(
    s: Session, watched: Watched, plain: float, portions: int, limits: Limits
) -> dict[str, PartTime]:
    """Scale the shares of a step that was watched to one that was not, and to all its portions."""
    scale = plain / watched.whole
    costs, updates = cost_per_part(s.recipe.model), bytes_of_updates(s)
    tokens = portions * s.recipe.train.batch_tokens
    seconds: dict[str, tuple[float, float]] = {}
    for part, ways in watched.seconds.items():
        times = scale * (1 if part in ONCE else portions)
        seconds[part] = times * ways.get(FORWARD, 0.0), times * ways.get(BACKWARD, 0.0)
    whole = sum(map(sum, seconds.values()))
    parts = {}
    for part, (forward, backward) in seconds.items():
        cost, taken = costs.get(part, PartCost(0, 0)), forward + backward
        flops = cost.flops * tokens
        once = watched.bytes.get(part, 0) + FLOAT32_BYTES * cost.weights
        moved = updates.get(part, PASSES * portions * once)
        parts[part] = PartTime(
            forward,
            backward,
            taken / whole,
            flops,
            moved,
            flops / taken / limits.peak_flops,
            moved / taken / limits.bandwidth,
        )
    return parts


def bytes_of_updates(s: Session) -> dict[str, float]:
    """Count the bytes that clipping reads, and that the optimizer reads and writes."""
    weights = sum(p.nbytes for p in s.model.parameters())
    state = sum(x.nbytes for x in s.optimizers.state().values())
    return {BETWEEN: weights, "optimizer": 3 * weights + 2 * state}


def measure_decoding(s: Session, limits: Limits) -> dict[str, float]:
    """Write tokens after half a context, one text; compare with reading all there is to read."""
    T = s.recipe.model.context_length
    prompt, n_tokens = [0] * max(1, T // 2), min(NEW_TOKENS, T)
    times = []
    for _ in generate_tokens(s.model, [prompt], n_tokens, lambda logits_NV: logits_NV.argmax(-1)):
        times.append(time.perf_counter())
    seconds = statistics.median(b - a for a, b in pairwise(times))
    moved = decode_bytes(s.recipe.model, len(prompt))
    return {
        "context": len(prompt),
        "seconds_per_token": seconds,
        "tokens_per_second": 1 / seconds,
        "bytes_per_token": moved,
        "of_bandwidth": moved / seconds / limits.bandwidth,
    }


def _seconds_of_step(s: Session) -> float:
    began = time.perf_counter()
    take_step(s)
    if s.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - began
