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

    def once() -> float:
        began = time.perf_counter()
        y = attend(q, k, v, query_positions_T=positions, key_positions_S=None, window=window)
        y.sum().backward()
        return time.perf_counter() - began

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 4, T, 64, requires_grad=True) for _ in range(3))
    positions = torch.arange(T)
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
        full, banded = (
            json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--runs", str(options.runs), "--one", str(T), str(W)],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
            )
            for W in (0, options.window)
        )
        print(
            f"| {T:,} | {full['seconds'] * 1e3:.1f} | {banded['seconds'] * 1e3:.1f} | "
            f"{full['seconds'] / banded['seconds']:.2f} | {full['mib']:.0f} | {banded['mib']:.0f} | "
            f"{full['mib'] / max(banded['mib'], 1e-9):.2f} |"
        )


if __name__ == "__main__":
    main()
