"""`gptlab bench attention` and `loss`: training steps that differ in one thing."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gptlab.bench.arms import Apart, Arm
from gptlab.bench.measuring import run, take_turns
from gptlab.bench.preparing import Field, Peers, job_of, recipe_of, sizes, split, write_text
from gptlab.bench.protocol import Plan, Tell
from gptlab.bench.record import Record
from gptlab.bench.training import about


def bench_attention(
    words: Sequence[str], plan: Plan, threads: int | None, tell: Tell, window: int, length: int
) -> Record:
    """Measure a model with windows against the same model with full attention."""
    (target, *more), common = split(words, "shakespeare")
    if more:
        raise ValueError(f"bench attention takes one recipe, and {more[0]} is another one")
    if length <= window:
        raise ValueError(f"--length={length} is not longer than --window={window}: no difference")
    row = [f"model.context_length={length}", f"train.batch_tokens={length}", "data=python"]
    full = recipe_of(target, [*row, *common])
    windowed = recipe_of(target, [*row, *common, f"model.attention.window={window}"])
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        field.add(Arm(f"window of {window}", "gptlab", job_of(windowed)))
        field.add_control()
        field.add(Arm("full attention", "gptlab", job_of(full)))
        title = f"Training steps of {target} at T = {length:,}, with a window of {window:,}"
        return run(field, "train", title, about(full), "tokens", plan, threads, tell)


def bench_loss(
    words: Sequence[str], peers: Peers, plan: Plan, threads: int | None, tell: Tell, tokens: int
) -> Record:
    """Measure whole steps, time and peak memory, against those that hold all logits at once.

    No two arms hold memory at once: each turn is a process that takes a step, and then timed ones.
    """
    peers.check()
    (target, *more), common = split(words, "gpt2")
    if more:
        raise ValueError(f"bench loss takes one recipe, and {more[0]} is another one")
    at_once = [f"train.batch_tokens={tokens}", f"train.micro_batch_tokens={tokens}"]
    recipe = recipe_of(target, ["model.vocab_size=50304", *at_once, *common])
    recipe.check()
    with tempfile.TemporaryDirectory() as place:
        field = Field(Path(place))
        field.add(Arm(target, "gptlab", job_of(recipe)))
        field.add_control()
        materialised = job_of(recipe) | {"materialised": True}
        field.add(Arm("materialised logits", "gptlab", materialised))
        if peers.names:
            job = sizes(recipe) | write_text(recipe, field.folder)
            for name in peers.names:
                field.add(peers.arm(name, name, job))
        title = f"Steps of {target} with all its logits, and without"
        arms = [Apart(arm, "train", threads) for arm in field.arms]
        return take_turns(arms, title, about(recipe), "tokens", plan, threads, tell)
