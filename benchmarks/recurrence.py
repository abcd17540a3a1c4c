"""Time of training the gated delta rule: in chunks, token by token, and as `transformers` has it.

    python benchmarks/recurrence.py [--lengths 256 1024]

Forward and backward of one layer (6 heads, keys of 64, values of 128, 2 rows) on one thread, median
of several runs; ratios are to the chunks.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gptlab.kernels.delta_rule import delta_rule, delta_rule_by_token

Form = Callable[..., tuple[Tensor, Any]]
B, H, K, V = 2, 6, 64, 128


def by_token(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    return delta_rule_by_token(*inputs, state_BHKV=torch.zeros(B, H, K, V), segments_BT=None)


def theirs(*inputs: Tensor) -> tuple[Tensor, Any]:
    module: Any = import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    q, k, v, g, beta = (x.transpose(1, 2) for x in inputs)
    return module.torch_chunk_gated_delta_rule(q, k, v, g=g, beta=beta)


def measure(form: Form, T: int, runs: int) -> float:
    """Give the seconds of a forward and a backward pass."""
    q, k, v = (torch.randn(B, H, T, width, requires_grad=True) for width in (K, K, V))
    log_decay, rate = (torch.rand(B, H, T, requires_grad=True) for _ in range(2))

    def once() -> float:
        began = time.perf_counter()
        y, _ = form(q, normalize(k, dim=-1), v, -log_decay, rate)
        y.sum().backward()
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(runs))


def main() -> None:
    parser = argparse.ArgumentParser(description="The gated delta rule, in training.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(platform.processor() or platform.machine())
    print("| T | in chunks, ms | by token | transformers |")
    print("|---|---|---|---|")
    for T in options.lengths:
        chunks, *others = (measure(f, T, options.runs) for f in (delta_rule, by_token, theirs))
        ratios = " | ".join(f"{other / chunks:.2f}" for other in others)
        print(f"| {T:,} | {1e3 * chunks:.1f} | {ratios} |")


if __name__ == "__main__":
    main()
