"""Precision: which number format the products are computed in, chosen by the machine.

Weights, optimizer, norms and losses stay in float32; under `bf16` the products run in bfloat16 by
autocast.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from gptlab import machine


def choose_precision(precision: str, device: torch.device, warn: Callable[[str], None]) -> str:
    """Turn `auto`, `float32` or `bf16` into `float32` or `bf16`, by a probe of the machine."""
    if precision == "float32":
        return "float32"
    if machine.bf16_is_fast(device.type):
        return "bf16"
    if precision == "bf16":
        warn(
            "train.precision=bf16, but bfloat16 products are not faster than float32 ones on this "
            f"{device.type}: training in float32"
        )
    return "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Run products in the given precision inside this context."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
