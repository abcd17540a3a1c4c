"""torch's optimizers without torch's compiler, which they load at their first call.

That is as long as importing torch itself, for decorators that only act while something is compiled.
"""

from inspect import unwrap
from typing import TypeVar, cast

import torch

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)

DECORATED = ("add_param_group", "zero_grad")


def light(optimizer: type[Kind]) -> type[Kind]:
    """Give the same optimizer, whose methods are the plain functions inside torch's decorators."""
    plain = {name: unwrap(getattr(optimizer, name)) for name in DECORATED}
    plain["step"] = torch.no_grad()(unwrap(optimizer.step))
    return cast(type[Kind], type(optimizer.__name__, (optimizer,), plain))
