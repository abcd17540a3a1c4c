"""Time of decoding a token with latent attention: in the absorbed form, and expanded.

    python benchmarks/latent.py [--lengths 256 1024 4096]

One layer of 16 heads and the paper's proportions (d_nope 64, d_latent 256, d_rope 32) reads one
token after a text of some length, 2 rows on one thread, median of several runs.
"""

import argparse
import platform
import statistics
import time

import torch

from gptlab.kernels.places import Places
from gptlab.model.gpt import Model
from gptlab.parts.attention.latent import LatentAttention
from gptlab.parts.context import Context


def build(capacity: int) -> LatentAttention:
    tree = {
        "vocab_size": 2,
        "context_length": capacity,
        "d_model": 1024,
        "n_layers": 1,
        "positions": "rotary",
        "norm": "rms_norm",
        "attention": {"type": "latent", "n_heads": 16},
        "mlp": {"type": "gelu", "d_ff": 1},
        "residual": "pre_norm",
        "head": "tied",
        "initialization": "gpt2",
    }
    mixer = Model.parse(tree).build().eval().mixers()[0]
    assert isinstance(mixer, LatentAttention)
    return mixer


@torch.no_grad()
def measure(T: int, runs: int, absorbed: bool) -> float:
    """Give the seconds of a token after T others."""
    mixer = build(T + runs + 1)
    if not absorbed:
        mixer.absorbed = mixer.expanded
    cache = mixer.new_cache(T + runs + 1)
    mixer(torch.randn(2, T, 1024), Context(Places.counted(0, T), [cache]))

    def once(t: int) -> float:
        x_BTD, context = torch.randn(2, 1, 1024), Context(Places.counted(t, t + 1), [cache])
        began = time.perf_counter()
        mixer(x_BTD, context)
        return time.perf_counter() - began

    return statistics.median([once(t) for t in range(T, T + runs + 1)][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Latent attention, token by token.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(platform.processor() or platform.machine())
    print("| text | absorbed, ms | expanded, ms | ratio |")
    print("|---|---|---|---|")
    for T in options.lengths:
        absorbed, expanded = (1e3 * measure(T, options.runs, form) for form in (True, False))
        print(f"| {T:,} | {absorbed:.2f} | {expanded:.2f} | {expanded / absorbed:.1f} |")


if __name__ == "__main__":
    main()
