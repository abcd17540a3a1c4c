"""A record as a table, in a terminal or as Markdown, with what one must know beside it."""

import math
from collections.abc import Sequence
from statistics import median

from gptlab.bench.ratios import ENOUGH, Ratio
from gptlab.bench.record import CONTROL, RUN, KeptArm, Record

FURTHER = (  # facts that races have: their headings and forms
    ("whole", "whole run, s", "{:.1f}"),
    ("final_loss", "final loss", "{:.4f}"),
    ("reached", "runs that got there", "{}"),
)
SAME_SIZE = 0.02  # parameters: what is further apart is told


def headings(record: Record) -> list[str]:
    """Name the columns."""
    loss = [f"loss, step {step}"] if (step := common_step(record)) else []
    return [
        "",
        "seconds" if record.unit == RUN else f"{record.unit}/s",
        "ratio",
        "95% interval",
        "sign test, p",
        "claimed",
        "peak memory",
        "parameters",
        "precision",
        *loss,
        *(heading for fact, heading, _ in FURTHER if fact in record.arms[0].facts),
    ]


def rows(record: Record) -> list[list[str]]:
    """A row for each arm."""
    ratios, noise, step = record.ratios(), record.noise(), common_step(record)
    table = []
    for arm in record.arms:
        ratio = ratios.get(arm.label)
        parameters, precision = arm.facts.get("parameters"), arm.facts.get("precision", "")
        table.append(
            [
                arm.label,
                _speed(record, arm.label),
                *_ratio(ratio, None if arm.label == CONTROL else noise),
                _memory(arm, record.arms[0]),
                f"{parameters:,}" if parameters else "",
                precision + (", compiled" if arm.facts.get("compiled") else ""),
                *([_loss(arm.losses[step])] if step else []),
                *(form.format(arm.facts[fact]) for fact, _, form in FURTHER if fact in arm.facts),
            ]
        )
    return table


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.3f}"


def _memory(arm: KeptArm, first: KeptArm) -> str:
    """Tell an arm's peak, and how many times the first one's it is."""
    if not arm.peak:
        return ""
    times = f" ({arm.peak / first.peak:.2f}x)" if arm is not first and first.peak else ""
    return f"{arm.peak / 1e6:,.0f} MB{times}"


def notes(record: Record) -> list[str]:
    """What the figures need to be read."""
    dropped, n = record.dropped(), len(record.rounds)
    lines = [f"Ratio: the speed of {record.first} over the other's."]
    lines.append(f"{n - len(dropped)} rounds of {n} count.")
    lines += [f"Dropped: {reason}." for reason in dropped]
    if n - len(dropped) < record.plan["rounds"]:
        lines.append("Fewer rounds count than were asked for.")
    noise = record.noise()
    if noise is None:
        lines.append("Nothing is claimed: there are too few rounds to know the noise.")
    else:
        lines.append(
            f"Noise: two processes of {record.first} differ by up to {math.expm1(noise):.1%}; what "
            f"is not twice as far from 1, or has less than {ENOUGH} rounds, is not claimed."
        )
    return lines + _differences(record)


def about_machine(record: Record) -> str:
    """Tell where and when it was measured."""
    facts = record.machine
    gpus = "".join(f", {gpu['name']}" for gpu in facts["gpus"])
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} at the start"
    return (
        f"{record.made} UTC, {facts['cpu']}{gpus}, {facts['threads']} threads, "
        f"torch {facts['torch']['version']}, commit {(facts['commit'] or 'unknown')[:10]}{load}"
    )


def markdown(record: Record) -> str:
    """Write a fragment of docs/benchmarks.md."""
    head = headings(record)
    table = [head, ["---"] * len(head), *rows(record)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    text = [f"## {record.title}", f"    {record.command}", f"{record.about}."]
    text += ["\n".join(lines), " ".join(notes(record)), about_machine(record) + "."]
    return "\n\n".join(text) + "\n"


def common_step(record: Record) -> str | None:
    """The last step whose loss every arm has told; None if there is none."""
    steps = set.intersection(*(set(arm.losses) for arm in record.arms))
    return max(steps, key=int, default=None)


def speeds(record: Record, label: str) -> list[float]:
    """All speeds of an arm in rounds that count, or in all rounds if none does."""
    chosen = [each for each in record.rounds if each.dropped is None] or record.rounds
    return [speed or 0.0 for each in chosen for speed in each.speeds[label]]


def number(x: float) -> str:
    """Write a speed in about four digits."""
    if not math.isfinite(x):
        return "never"
    return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"


def _speed(record: Record, label: str) -> str:
    speed = median(speeds(record, label))
    if record.unit == RUN:
        return f"{1 / speed:.1f}" if speed else "never"
    return number(speed)


def _ratio(ratio: Ratio | None, noise: float | None) -> list[str]:
    if ratio is None:
        return ["", "", "", ""]
    interval = f"{ratio.low:.2f} to {ratio.high:.2f}" if math.isfinite(ratio.high) else ""
    claim = None if noise is None else ratio.claim(noise)
    claimed = "" if claim is None else f">{claim:.3g}x"
    return [f"{ratio.median:.2f}", interval, f"{ratio.p:.2g}", claimed]


def _differences(record: Record) -> list[str]:
    """Say what arms compute differently, so that no table hides it."""
    lines = []
    first = record.arms[0]
    for arm in record.arms[1:]:
        mine, theirs = first.facts.get("parameters"), arm.facts.get("parameters")
        if mine and theirs and abs(theirs / mine - 1) > SAME_SIZE:
            lines.append(f"{arm.label} has {theirs / mine - 1:+.1%} parameters.")
    lines += _same(record.arms, "checksum", "do not give the same ids")
    kinds = {arm.facts["precision"] for arm in record.arms if "precision" in arm.facts}
    if len(kinds) > 1:
        lines.append(f"Not all compute in the same precision ({' and '.join(sorted(kinds))}).")
    return lines


def _same(arms: Sequence[KeptArm], fact: str, complaint: str) -> list[str]:
    first = arms[0]
    others = [arm.label for arm in arms[1:] if arm.facts.get(fact) != first.facts.get(fact)]
    return [f"{first.label} and {other} {complaint}." for other in others]
