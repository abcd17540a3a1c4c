"""torch.compile for training passes: one block is compiled, and serves all that are like it.

What it compiles is kept on the disk by torch, for the next run. Validation and samples, with their
changing lengths, stay as they are.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from gptlab.model.accounting import training_flops_per_token
from gptlab.model.gpt import GPT
from gptlab.train.recipe import Recipe

WORTH_IT = 3e16  # FLOPs of a run: some five minutes of a GPU, of which compiling takes one


def should_compile(recipe: Recipe, device: torch.device, say: Callable[[str], None]) -> bool:
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


def compile_blocks(model: GPT, say: Callable[[str], None]) -> None:
    """Have the model's blocks compiled at their first training pass."""
    compiled = Compiled(say)
    for block in model.blocks:
        block.forward = partial(compiled, type(block).forward, block)


class Compiled:
    """Calls the compiled form of a block's forward in training, and the plain one elsewhere.

    If its forward pass cannot be compiled, it says so once, and all go on in the plain form.
    """

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.forms: dict[Callable[..., Any], Callable[..., Any]] = {}

    def __call__(self, forward: Callable[..., Any], block: Any, *given: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(block, *given)
        if forward not in self.forms:
            self.forms[forward] = torch.compile(forward, dynamic=False)
        form = self.forms[forward]
        if form is forward:
            return forward(block, *given)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return form(block, *given)
        except TorchDynamoException as error:
            self.forms[forward] = forward
            reason = str(error).strip().splitlines()[0]
            self.say(f"train.compile: going on without, this model cannot be compiled: {reason}")
            return forward(block, *given)
