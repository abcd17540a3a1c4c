"""The guard: all in which two finished runs differ, found in their folders and nowhere else."""

from collections.abc import Collection, Sequence
from typing import Any

from gptlab.compare.identity import determining
from gptlab.compare.results import Finding
from gptlab.runs.folder import RunFolder
from gptlab.train.recipe import Recipe

OF_THE_RUN = ("gptlab", "code_sha256", "device", "precision", "kernels")
OF_THE_TEXT = ("data_sha256", "tokenizer_sha256", "text_bytes", "val_bytes")
OF_THE_MACHINE = ("system", "python", "cpu", "gpus", "torch", "versions")
BY_THE_TOKENIZER = ("data_sha256", "tokenizer_sha256", "val_bytes")  # the same text, other ids
TIMES_ONLY = ("machine.torch.threads",)
TOKENS = "tokens seen"
NONE = "(none)"


def facts(run: RunFolder) -> dict[str, str]:
    """Collect what could make a run differ from another: settings, text, code, machine, tokens."""
    lines, _ = run.metrics()
    is_whole = run.status()["state"] == "done"
    return {
        **_flat("", determining(Recipe.parse(run.config_tree()))),
        **_where(run.environment()),
        **({TOKENS: str(lines[-1]["tokens"])} if is_whole and lines else {}),
    }


def _where(known: dict[str, Any]) -> dict[str, str]:
    """Tell what a run ran on and with; where it was moved, all of them, one after the other."""
    last = _place(known)
    told = dict(last)
    for change in known.get("continued", []):
        known = known | change
        now = _place(known)
        for name in now:
            if now[name] != last.get(name, NONE):
                told[name] = f"{told.get(name, NONE)}, from step {change['step']} {now[name]}"
        last = now
    return told


def _place(known: dict[str, Any]) -> dict[str, str]:
    machine = known.get("machine", {})
    return {
        **{name: str(known.get(name)) for name in (*OF_THE_RUN, *OF_THE_TEXT)},
        **_flat("machine", {name: machine.get(name) for name in OF_THE_MACHINE}),
    }


def differing(
    name: str,
    scale: str,
    pairs: Sequence[tuple[RunFolder, RunFolder]],
    declared: Collection[str],
) -> list[Finding]:
    """Compare pairs of runs, the reference's first, that should differ in what is declared alone.

    What is the same in every pair is told once.
    """
    found: dict[tuple[str, str, str], Finding] = {}
    for base, variant in pairs:
        a, b = facts(base), facts(variant)
        for what in [*a, *(key for key in b if key not in a)]:
            was, is_now = a.get(what, NONE), b.get(what, NONE)
            if was != is_now and not (what == TOKENS and NONE in (was, is_now)):  # one diverged
                is_declared = what in declared
                refuses = not is_declared and what not in TIMES_ONLY
                found[what, was, is_now] = Finding(
                    variant=name,
                    scale=scale,
                    what=what,
                    base_value=was,
                    variant_value=is_now,
                    declared=is_declared,
                    severity="refuses" if refuses else "note",
                )
    return list(found.values())


def declared_by(reference: Recipe, arm: Recipe) -> set[str]:
    """Name all in which an arm is meant to differ from the reference, as `facts` names it."""
    a, b = _flat("", determining(reference)), _flat("", determining(arm))
    names = {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}
    if any(name.startswith("tokenizer.") for name in names):
        names |= {*BY_THE_TOKENIZER}
    if {"train.steps", "train.batch_tokens"} & names:
        names.add(TOKENS)
    return names


def _flat(path: str, tree: Any) -> dict[str, str]:
    if not isinstance(tree, dict) or not tree:
        return {path: str(tree)}
    below = [_flat(f"{path}.{name}".removeprefix("."), value) for name, value in tree.items()]
    return {name: value for leaves in below for name, value in leaves.items()}
