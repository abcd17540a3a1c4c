"""The final validation loss of the `shakespeare` recipe over several seeds, and its time.

    python benchmarks/shakespeare.py [SETTING=VALUE ...] [--seeds 0 1 2] [--data FILE]

The loss is that of the whole validation set of tiny Shakespeare (111,540 characters) in windows of
64. nanoGPT's code at the same sizes, scored the same way, gives 1.898, 1.905 and 1.917.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from gptlab import machine
from gptlab.recipes import find_recipe
from gptlab.train.run import start_run

NANOGPT = 1.905  # the median of its three seeds


def main() -> None:
    parser = argparse.ArgumentParser(description="Validation loss of a recipe over seeds.")
    parser.add_argument("settings", nargs="*", help="path.to.setting=value")
    parser.add_argument("--recipe", default="shakespeare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, help="tiny Shakespeare, if there is no network")
    options = parser.parse_args()
    settings = [f"data.path={options.data}"] if options.data else []
    settings += ["train.evaluate_every=null", "train.checkpoint_every=null", *options.settings]
    losses = []
    print(f"{machine.cpu_name()}, {machine.usable_cores()} cores")
    print("| seed | validation loss | bits/byte | training, s | in all, s | tokens/s |")
    print("|---|---|---|---|---|---|")
    for seed in options.seeds:
        recipe = find_recipe(options.recipe).override([*settings, f"seed={seed}"])
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            outcome = start_run(recipe, folder, say=lambda text: None)
            whole = time.perf_counter() - began
            (*_, last), _ = outcome.run.metrics()
        losses.append(last["val_loss"])
        print(
            f"| {seed} | {last['val_loss']:.4f} | {last['bits_per_byte']:.4f} | "
            f"{last['seconds']:.1f} | {whole:.1f} | {last['tokens'] / last['seconds']:,.0f} |",
            flush=True,
        )
    median = statistics.median(losses)
    print(f"median {median:.4f}, {median / NANOGPT:.4f} of nanoGPT's {NANOGPT}")


if __name__ == "__main__":
    main()
