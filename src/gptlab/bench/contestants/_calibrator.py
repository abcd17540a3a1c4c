"""The calibrator: the same work each time, whose time tells how fast the machine is just now.

Products in float32 and in bfloat16, copies of memory, and many operations on tiny tensors. Each is
done for a few times and the median is told, so that one interruption does not.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

REPEATS = 7


def calibrate(job: dict[str, Any], beat: Any) -> None:
    """Work as a contestant whose losses are the seconds that each kind of work took."""
    kinds = _kinds()
    beat.ready(1.0, threads=torch.get_num_threads(), kinds=list(kinds))
    while True:
        beat.losses = {name: _median_seconds(do) for name, do in kinds.items()}
        beat()


def _kinds() -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    a, b = torch.randn(768, 768), torch.randn(768, 768)
    a_bf16, b_bf16 = a.bfloat16(), b.bfloat16()
    source, target, tiny = torch.ones(2**23), torch.empty(2**23), torch.ones(8)  # 32 MiB

    def many_tiny() -> None:
        for _ in range(4000):
            tiny.add(1.0)

    return {
        "float32 products": lambda: [torch.mm(a, b) for _ in range(4)],
        "bf16 products": lambda: [torch.mm(a_bf16, b_bf16) for _ in range(4)],
        "memory copies": lambda: target.copy_(source),
        "tiny operations": many_tiny,
    }


def _median_seconds(do: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
