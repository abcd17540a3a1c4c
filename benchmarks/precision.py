"""Loss curves in bfloat16 beside those in float32, against what seeds alone make of them.

    python benchmarks/precision.py [RECIPE] [SETTING=VALUE ...] [--seeds 0 1 2] [--data FILE]
        [--points 20] [--plot FILE]

A seed has the same first weights and the same batches in both precisions. Every point of a curve is
the loss on the whole validation set, in the precision of the run. The gap is that between the means
over seeds; the spread is the standard deviation of float32's seeds, the range their most less their
least. On a machine that does not train in bf16 there is nothing to compare.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t

from gptlab import machine
from gptlab.recipes import find_recipe
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

PRECISIONS = ("float32", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description="bfloat16 beside float32, over seeds.")
    parser.add_argument("words", nargs="*", help="a recipe and settings (path.to.setting=value)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, help="tiny Shakespeare, if there is no network")
    parser.add_argument("--points", type=int, default=20, help="of a curve")
    parser.add_argument("--plot", type=Path, help="draw the curves, such as precision.png")
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("--seeds: one seed has no spread, give at least two")
    names = [word for word in options.words if "=" not in word] or ["shakespeare"]
    settings = [f"data.path={options.data}"] if options.data else []
    settings += [word for word in options.words if "=" in word]
    recipe = find_recipe(names[0]).override(settings)
    recipe = recipe.override(
        [
            f"train.evaluate_every={max(1, recipe.total_steps() // options.points)}",
            "train.checkpoint_every=null",
            "train.sample_tokens=0",
            "train.tensorboard=false",
        ]
    )
    print(f"{machine.cpu_name()}, {machine.usable_cores()} cores, {names[0]} {' '.join(settings)}")
    print("\n| seed | float32 | bf16 | bf16 less float32 |\n|---|---|---|---|")
    curves: dict[str, list[list[float]]] = {precision: [] for precision in PRECISIONS}
    steps: list[int] = []
    for seed in options.seeds:
        for precision in PRECISIONS:
            steps, losses = curve(recipe.override([f"seed={seed}"]), precision)
            curves[precision].append(losses)
        float32, bf16 = (curves[precision][-1][-1] for precision in PRECISIONS)
        print(f"| {seed} | {float32:.4f} | {bf16:.4f} | {bf16 - float32:+.4f} |", flush=True)
    float32_SP, bf16_SP = (np.array(curves[precision]) for precision in PRECISIONS)
    report(steps, float32_SP, bf16_SP)
    if options.plot:
        draw(steps, {"float32": float32_SP, "bf16": bf16_SP}, options.plot)


def curve(recipe: Recipe, precision: str) -> tuple[list[int], list[float]]:
    """Train, and give the validation losses with their steps."""
    recipe = recipe.override([f"train.precision={precision}"])
    with tempfile.TemporaryDirectory() as folder:
        outcome = start_run(recipe, folder, say=lambda text: None)
        found = outcome.session.precision
        if found != precision:
            raise SystemExit(f"train.precision={precision}: this machine trains in {found}")
        lines = outcome.run.evaluations()
    return [line["step"] for line in lines], [line["val_loss"] for line in lines]


def report(steps: Sequence[int], float32_SP: np.ndarray, bf16_SP: np.ndarray) -> None:
    """Print what S seeds show at the end, and at all P points."""
    n = len(float32_SP)
    differences_S = bf16_SP[:, -1] - float32_SP[:, -1]
    mean, sd = differences_S.mean(), differences_S.std(ddof=1)
    margin = t.ppf(0.975, n - 1) * sd / n**0.5
    print(
        f"\nAt the end: {mean:+.4f} nats, paired by seed (95% interval: {mean - margin:+.4f} to "
        f"{mean + margin:+.4f}); the standard deviation of float32's seeds is "
        f"{float32_SP[:, -1].std(ddof=1):.4f}, of bf16's {bf16_SP[:, -1].std(ddof=1):.4f}.\n"
    )
    gap_P = bf16_SP.mean(0) - float32_SP.mean(0)
    spread_P, range_P = float32_SP.std(0, ddof=1), np.ptp(float32_SP, axis=0)
    print("| step | float32 | bf16 | gap | spread | range |\n|---|---|---|---|---|---|")
    for i, step in enumerate(steps):
        print(
            f"| {step:,} | {float32_SP[:, i].mean():.4f} | {bf16_SP[:, i].mean():.4f} | "
            f"{gap_P[i]:+.4f} | {spread_P[i]:.4f} | {range_P[i]:.4f} |"
        )
    widest, inside = int(np.abs(gap_P).argmax()), int((np.abs(gap_P) <= range_P).sum())
    print(
        f"\nThe largest gap is {gap_P[widest]:+.4f}, at step {steps[widest]:,}, where the range is "
        f"{range_P[widest]:.4f}. The gap is within the range at {inside} points of {len(steps)}."
    )


def draw(steps: Sequence[int], curves: dict[str, np.ndarray], file: Path) -> None:
    """Draw every seed's curve, and the gap of each beside float32's spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for color, (precision, losses_SP) in zip(("C0", "C1"), curves.items(), strict=True):
        left.plot(steps, losses_SP.T, color=color, linewidth=1)
        left.plot([], [], color=color, label=precision)
    left.set(xlabel="step", ylabel="validation loss, nats")
    left.legend(frameon=False)
    spread_P = curves["float32"].std(0, ddof=1)
    right.fill_between(steps, -spread_P, spread_P, color="C0", alpha=0.2, label="spread of float32")
    right.plot(steps, (curves["bf16"] - curves["float32"]).T, color="C1", linewidth=1)
    right.set(xlabel="step", ylabel="bf16 less float32, of each seed")
    right.legend(frameon=False)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
