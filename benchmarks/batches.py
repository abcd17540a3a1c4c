"""Batches per second, beside slicing every sequence and stacking them as nanoGPT does.

    python benchmarks/batches.py

Both read the same memory map of tokens, in turns; ratios are those of medians.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from gptlab.data.batching import Batching
from gptlab.data.batching.epoch import Epoch
from gptlab.data.batching.packed import Packed
from gptlab.data.batching.stream import Stream

SHAPES = ((12, 64), (64, 256), (8, 1024))
WAYS = (Epoch(), Stream(), Packed())


def slice_and_stack(tokens: np.ndarray, B: int, T: int) -> None:
    """Fetch a batch sequence by sequence."""
    starts = torch.randint(len(tokens) - T, (B,))
    for shift in (0, 1):
        torch.stack(
            [torch.from_numpy(tokens[i + shift : i + shift + T].astype(np.int64)) for i in starts]
        )


def rate(fetch, seconds: float) -> float:
    """Count calls per second."""
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        fetch(calls)
        calls += 1
    return calls / (time.perf_counter() - began)


def compare(way: Batching, tokens: np.ndarray, starts: np.ndarray, B: int, T: int) -> None:
    """Measure both in turns and print their medians."""
    rows = way.build(tokens, starts, T, seed=0)
    rows.take(np.arange(B))

    def ours(step: int) -> None:
        batch = rows.take(np.arange(step * B, (step + 1) * B))
        for array in (batch.x_NT, batch.y_NT):
            torch.from_numpy(array)

    pairs = [
        (rate(ours, 0.3), rate(lambda step: slice_and_stack(tokens, B, T), 0.3)) for _ in range(7)
    ]
    mine, other = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"{way.variant:8} {B:3} x {T:4}  {mine:9,.0f}/s  {other:9,.0f}/s  {mine / other:5.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=50_000_000)
    n = parser.parse_args().tokens
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tokens.bin")
        generator.integers(0, 50_000, n).astype(np.uint16).tofile(file)
        tokens = np.memmap(file, np.uint16, "r")
        lengths = np.cumsum(generator.integers(20, 2000, n // 1000))
        starts = np.concatenate([[0], lengths[lengths < n]])
        print("batching  B x    T        gptlab   sequence by sequence")
        for B, T in SHAPES:
            for way in WAYS:
                compare(way, tokens, starts, B, T)


if __name__ == "__main__":
    main()
