"""Time of training attention with sinks: as a key of torch's fused kernel, and in the plain form.

    python benchmarks/sinks.py [--lengths 256 1024]

Forward and backward of one attention layer (8 heads of 64 on 2 key/value heads, 2 rows) on one
thread, median of several runs; ratios are to fused attention without sinks.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from gptlab.kernels import softmax


def measure(form: Callable[..., Tensor], T: int, runs: int) -> float:
    """Give the seconds of a forward and a backward pass."""
    q, k, v = (torch.randn(2, heads, T, 64, requires_grad=True) for heads in (8, 2, 2))
    sinks_H = torch.zeros(8, requires_grad=True)
    scoring = softmax.Scoring(64**-0.5, softcap=None, sinks_H=sinks_H, dropout=0.0)

    def once() -> float:
        began = time.perf_counter()
        form(q, k, v, None, scoring, causal=True).sum().backward()
        return time.perf_counter() - began

    once()
    return statistics.median(once() for _ in range(runs))


def main() -> None:
    parser = argparse.ArgumentParser(description="Attention with sinks, in training.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    forms = (softmax._attend_fused, softmax._attend_with_sink_key, softmax._attend_plainly)
    print(platform.processor() or platform.machine())
    print("| T | without sinks, ms | sinks as a key, ms | ratio | sinks plainly, ms | ratio |")
    print("|---|---|---|---|---|---|")
    for T in options.lengths:
        base, key, plain = (1e3 * measure(form, T, options.runs) for form in forms)
        ratios = f"{key:.1f} | {key / base:.2f} | {plain:.1f} | {plain / base:.2f}"
        print(f"| {T:,} | {base:.1f} | {ratios} |")


if __name__ == "__main__":
    main()
