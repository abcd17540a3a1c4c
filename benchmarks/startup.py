"""Time from the command to the first optimizer step, as a ratio to `import torch`.

    python benchmarks/startup.py [RECIPE] [SETTING=VALUE ...] [--data FILE] [--rounds 15]

Each round runs both, in turns, in processes of their own. The end of the first step is when its
line of metrics is in the run folder, which is looked for every millisecond; then the run is killed.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gptlab import machine


def time_import() -> float:
    """Seconds that a process takes which imports torch and does nothing else."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - began


def time_first_step(words: list[str]) -> float:
    """Seconds from the command to the first line of metrics."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "runs" / "startup" / "metrics.jsonl"
        command = [sys.executable, "-m", "gptlab", "train", *words, "name=startup"]
        began = time.perf_counter()
        run = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        while not (lines.exists() and lines.stat().st_size):
            if run.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {run.returncode}")
            time.sleep(0.001)
        seconds = time.perf_counter() - began
        run.kill()
        run.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Start-up beside `import torch`.")
    parser.add_argument("words", nargs="*", help="a recipe and settings")
    parser.add_argument("--data", type=Path, help="tiny Shakespeare, if there is no network")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    words = options.words or ["shakespeare"]
    words += [f"data.path={options.data.resolve()}"] if options.data else []
    ways = {"torch": time_import, "step": lambda: time_first_step(words)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name in random.sample(list(ways), 2):
            taken = ways[name]()
            seconds[name] += [taken] if turn else []  # the first round fills the disk's cache
    ratios = sorted(b / a for a, b in zip(*seconds.values(), strict=True))
    print(f"{machine.cpu_name()}, {machine.usable_cores()} cores, {' '.join(words)}")
    print(
        "| import torch, s | first step, s | ratio, median | least | most |\n|---|---|---|---|---|"
    )
    torch_, step = (statistics.median(each) for each in seconds.values())
    middle = statistics.median(ratios)
    print(f"| {torch_:.3f} | {step:.3f} | {middle:.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} |")


if __name__ == "__main__":
    main()
