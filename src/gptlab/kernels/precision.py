"""Where a model in bfloat16 needs float32."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def precise(x: Tensor) -> Tensor:
    """Give the same numbers, in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact_products(device: torch.device) -> AbstractContextManager[object]:
    """Keep autocast from rounding products."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
