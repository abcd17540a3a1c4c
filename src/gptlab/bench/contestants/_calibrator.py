"""The calibrator: the same work each time, whose time tells how fast the machine is just now.

Products in float32 and in bfloat16, copies of memory, and many operations on tiny tensors. Each is
done a few times and the median is told, so that one interruption does not count; the threads of
whoever worked before are given time to go to sleep.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

REPEATS = 11
SETTLE = 0.3  # seconds


def calibrate(job: dict[str, Any], beat: Any) -> None:
    """Work as a contestant whose losses are the seconds that each kind of work took."""
    kinds = _kinds()
    beat.ready(1.0, threads=torch.get_num_threads(), kinds=list(kinds))
    while True:
        time.sleep(SETTLE)
        beat.losses = {name: _median_seconds(do) for name, do in kinds.items()}
        beat()


def _kinds() -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    a, b = torch.randn(768, 768), torch.randn(768, 768)
    a_bf16, b_bf16 = a.bfloat16(), b.bfloat16()
    product, product_bf16 = torch.empty_like(a), torch.empty_like(a_bf16)
    source, target, tiny = torch.ones(2**25), torch.zeros(2**25), torch.ones(8)  # 128 MiB

    def many_tiny() -> None:
        for _ in range(4000):
            tiny.add(1.0)

    return {
        "float32 products": lambda: [torch.mm(a, b, out=product) for _ in range(4)],
        "bf16 products": lambda: [torch.mm(a_bf16, b_bf16, out=product_bf16) for _ in range(16)],
        "memory copies": lambda: target.copy_(source),
        "tiny operations": many_tiny,
    }


def _median_seconds(do: Callable[[], object]) -> float:
    do()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
