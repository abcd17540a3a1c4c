"""`gptlab show --profile`: where a step's time goes, and how far from the limit that is."""

from json import dumps
from pathlib import Path
from typing import Any

from gptlab.show._print import print_table
from gptlab.show._profile_plot import NAMES, in_order, save_plot
from gptlab.show._profiling import measure
from gptlab.show._tokenizer_plot import check_plot
from gptlab.train.recipe import Recipe


def profile(recipe: Recipe, json: bool = False, plot: Path | None = None) -> None:
    """Measure steps of a recipe on random tokens; print where their time goes, and draw it."""
    if plot:
        check_plot(plot)
    facts = measure(recipe.resolved())
    if json:
        print(dumps(facts, indent=2))
    else:
        _print(facts)
    if plot:
        save_plot(facts, plot)


def _print(facts: dict[str, Any]) -> None:
    step, decoding = facts["step"], facts["decoding"]
    print_table(
        f"A step of {facts['name']}: {step['seconds'] * 1e3:,.1f} ms, "
        f"{step['tokens_per_second']:,.0f} tokens/s, {step['of_peak']:.1%} of peak\n"
        f"{facts['cpu']}, {facts['device']}, {facts['threads']} threads, {facts['precision']}: "
        f"{facts['peak_flops'] / 1e9:,.0f} GFLOP/s in a large product, "
        f"{facts['bandwidth'] / 1e9:,.1f} GB/s of memory",
        ["", "forward, ms", "backward, ms", "of the step", "of peak", "of bandwidth"],
        [_row(name, part) for name, part in in_order(facts["parts"]).items()],
    )
    if step["portions"] > 1:
        print(f"Measured on one of {step['portions']} portions of a batch.")
    print(
        f"Shares are of {step['steps']} steps that were watched, "
        f"{step['seconds_watched'] * 1e3:,.1f} ms each, of a portion. "
        "Bandwidth: of bytes that must move if no cache holds them.\n"
        f"Generating one text after {decoding['context']} tokens: "
        f"{decoding['tokens_per_second']:,.0f} tokens/s, "
        f"{decoding['bytes_per_token'] / 1e6:,.2f} MB each, "
        f"{decoding['of_bandwidth']:.1%} of the bandwidth."
    )


def _row(name: str, part: dict[str, float]) -> list[str]:
    backward = f"{part['backward'] * 1e3:,.2f}" if part["backward"] else ""
    return [
        NAMES.get(name, name),
        f"{part['forward'] * 1e3:,.2f}",
        backward,
        f"{part['share']:.1%}",
        f"{part['of_peak']:.1%}" if part["flops"] else "",
        f"{part['of_bandwidth']:.1%}" if part["bytes"] else "",
    ]
