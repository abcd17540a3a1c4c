"""Time and memory of windowed against full attention in training, on this machine.

    python benchmarks/window.py [--window 256] [--lengths 1024 4096 16384]

Each measurement runs in a process of its own: forward and backward of one attention layer (4 heads
of 64, one row), median of several runs; peak memory is what the process took beyond its start.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time


def measure(T: int, window: int | None, runs: int) -> dict[str, float]:
    """Run forward and backward; give seconds (median) and peak memory in MiB."""
    import torch

    from gptlab.kernels.attention import attend
    from gptlab.kernels.places import Places

    def once() -> float:
        began = time.perf_counter()
        y = attend(q, k, v, queries=places, keys=None, window=window)
        y.sum().backward()
        return time.perf_counter() - began

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, T, 64, requires_grad=True) for _ in range(3))
    places = Places.counted(0, T)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = [once() for _ in range(runs)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "mib": (peak - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description="Windowed against full attention, in training.")
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        T, window = options.one
        print(json.dumps(measure(T, window or None, options.runs)))
        return
    print(f"{platform.processor() or platform.machine()}, window {options.window}")
    print("| T | full, ms | window, ms | ratio | full, MiB | window, MiB | ratio |")
    print("|---|---|---|---|---|---|---|")
    for T in options.lengths:
        full, banded = (in_own_process(T, W, options.runs) for W in (0, options.window))
        print(f"| {T:,} |", row(full["seconds"] * 1e3, banded["seconds"] * 1e3, ".1f"), end=" ")
        print(row(full["mib"], banded["mib"], ".0f"))


def in_own_process(T: int, window: int, runs: int) -> dict[str, float]:
    """Measure in a fresh process, whose peak memory is its own; a window of 0 is none."""
    command = [sys.executable, __file__, "--runs", str(runs), "--one", str(T), str(window)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(full: float, banded: float, form: str) -> str:
    """Two figures and how many times the first is the second."""
    return f"{full:{form}} | {banded:{form}} | {full / banded:.2f} |"


if __name__ == "__main__":
    main()
