"""Which GPU a worker gets: by the names that the process who starts it knows them by."""

import os
from collections.abc import Sequence

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """Name the GPUs that this process may use."""
    import torch

    return names(torch.cuda.device_count(), os.environ.get(VARIABLE))


def names(count: int, allowed: str | None) -> list[str]:
    """Name GPUs as `CUDA_VISIBLE_DEVICES` does, by numbers or UUIDs; None: it is not set."""
    if allowed is None:
        return [str(number) for number in range(count)]
    return [name.strip() for name in allowed.split(",")][:count]


def least_used(gpus: Sequence[str], taken: Sequence[str | None]) -> str:
    """Choose the GPU that the fewest workers have, the first of several."""
    return min(gpus, key=taken.count)
