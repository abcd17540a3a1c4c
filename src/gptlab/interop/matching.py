"""Which family computes what a model computes, and if none does, what keeps the nearest from it."""

import json
import math
from typing import Any

from gptlab.interop.explicit import explicit
from gptlab.interop.families import Family, families
from gptlab.interop.reading import read_model
from gptlab.interop.settings import Settings
from gptlab.model.accounting import build_on_meta
from gptlab.model.gpt import Model

SHOWN = 8

Change = tuple[str, Any, Any]  # path, what it is, what the family has


def choose_family(model: Model) -> tuple[Family, dict[str, Any]]:
    """Find the family whose config says all about a model, and that config.

    Raises ValueError naming the nearest family and what to change for it.
    """
    wanted, misses = explicit(model), list[tuple[int, str, list[Change]]]()
    for name, family in families().items():
        try:
            config = family.write(wanted)
            again = explicit(read_model(family, Settings(config, name)))
            build_on_meta(again)
        except ValueError:  # sizes that this family cannot have
            continue
        unlike = _changes("model", wanted.model_dump(mode="json"), again.model_dump(mode="json"))
        if not unlike:
            return family, config
        misses.append((len(unlike), name, unlike))
    if not misses:
        raise ValueError("this model has no Hugging Face form, and none that is near to it")
    n, name, unlike = min(misses, key=lambda miss: miss[0])
    shown = ", ".join(f"{path}={theirs} (is {ours})" for path, ours, theirs in unlike[:SHOWN])
    more = f" and {n - SHOWN} more" if n > SHOWN else ""
    raise ValueError(f"this model has no Hugging Face form; the nearest, {name}, has {shown}{more}")


def _changes(path: str, ours: Any, theirs: Any) -> list[Change]:
    """List the settings that differ; of parts of other variants, the variant alone."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and _name(ours) == _name(theirs):
        return [
            change for key in ours for change in _changes(f"{path}.{key}", ours[key], theirs[key])
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [change for i, (a, b) in pairs for change in _changes(f"{path}.{i}", a, b)]
    same = _close(ours, theirs) if isinstance(ours, float) else ours == theirs
    return [] if same else [(path, _name(ours), _name(theirs))]


def _name(value: Any) -> str:
    """Write a setting down; a part by its variant, the whole model not at all."""
    if isinstance(value, dict):
        return value.get("type", "")
    return json.dumps(value)[:60]


def _close(a: float, b: Any) -> bool:
    """Tell whether two numbers are the same but for the rounding of a reciprocal."""
    return isinstance(b, float) and math.isclose(a, b, rel_tol=1e-14)
