"""torch.compile for training passes: one block is compiled, and serves all that are like it.

What it compiles is kept on the disk by torch, for the next run. Validation and samples, with their
changing lengths, stay as they are.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from gptlab.model.accounting import training_flops_per_token
from gptlab.model.gpt import GPT
from gptlab.train.readings import Numbers
from gptlab.train.recipe import Recipe
from gptlab.train.session import (
    Portion,
    Say,
    Session,
    Update,
    random_state,
    restore_random_state,
)

WORTH_IT = 3e16  # FLOPs of a run: some five minutes of a GPU, of which compiling takes one


def should_compile(recipe: Recipe, device: torch.device, say: Say) -> bool:
    """Decide as `train.compile` says; `auto` does where a run on a GPU is long enough to repay it.

    On a CPU `auto` does not: what it gains has to be measured (docs/benchmarks.md).
    """
    asked = recipe.train.compile
    if asked != "auto":
        return asked == "on"
    if device.type != "cuda" or recipe.train.cuda_graphs:
        return False
    n_tokens = recipe.total_steps() * recipe.train.batch_tokens
    flops = n_tokens * training_flops_per_token(recipe.resolved().model)
    if flops < WORTH_IT:
        return False
    say(f"compiling, for a run of {flops:.1e} FLOPs (train.compile=auto): a minute, more or less")
    return True


def compile_blocks(model: GPT) -> "Compiled":
    """Have the model's blocks compiled at their first training pass; see `WhileCompiled`."""
    compiled = Compiled()
    for block in model.blocks:
        block.forward = partial(compiled, type(block).forward, block)
    return compiled


class Compiled:
    """Calls the compiled form of a block's forward in training, and the plain one elsewhere.

    `given_up`: the plain one everywhere, from now on.
    """

    def __init__(self) -> None:
        self.forms: dict[Callable[..., Any], Callable[..., Any]] = {}
        self.given_up = False

    def __call__(self, forward: Callable[..., Any], block: Any, *given: Any) -> Any:
        if self.given_up or not torch.is_grad_enabled():
            return forward(block, *given)
        if forward not in self.forms:
            self.forms[forward] = torch.compile(forward, dynamic=False)
        return self.forms[forward](block, *given)


class WhileCompiled:
    """Takes steps as `update` does, for as long as what they need can be compiled.

    A pass is compiled when it is first met: the backward pass in the middle of a step, any pass
    again at another shape. Where that fails, the step is taken again from its start in the plain
    form, and so are all that follow.
    """

    def __init__(self, update: Update, compiled: Compiled, say: Say):
        self.update, self.compiled, self.say = update, compiled, say

    def __call__(self, s: Session, portions: Sequence[Portion]) -> Numbers:
        if self.compiled.given_up:
            return self.update(s, portions)
        from torch._dynamo.exc import TorchDynamoException

        drawn = random_state(s.device)
        try:
            return self.update(s, portions)
        except TorchDynamoException as error:  # always before the optimizer moves anything
            reason = str(error).strip().splitlines()[0]
        self.say(f"train.compile: going on without, this model cannot be compiled: {reason}")
        self.compiled.given_up = True
        s.model.forget_step()
        restore_random_state(drawn)
        return self.update(s, portions)
