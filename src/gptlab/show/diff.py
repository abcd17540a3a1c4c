"""`gptlab diff`: what separates two recipes, two runs, or a recipe and a run."""

from pathlib import Path
from typing import Any

from gptlab.config import differences
from gptlab.model.accounting import cache_bytes, count_flops, count_parameters
from gptlab.model.gpt import Model
from gptlab.recipes import open_recipe
from gptlab.runs.folder import ENVIRONMENT, RunFolder
from gptlab.show._print import plain, print_table

Difference = tuple[str, Any, Any]


def diff(a: str, b: str) -> None:
    """Print what differs: settings, costs, and for two runs what they ran on."""
    one, other = open_recipe(a).resolved(), open_recipe(b).resolved()
    tables = {
        "Settings": differences(one, other),
        "Costs": _between(costs(one.model), costs(other.model)),
        "Environment": _between(environment(a), environment(b)) if _are_runs(a, b) else [],
    }
    if not any(tables.values()):
        print("no differences")
    for title, rows in tables.items():
        if rows:
            print_table(title, ["", a, b], [[path, plain(x), plain(y)] for path, x, y in rows])


def costs(model: Model) -> dict[str, str]:
    """Count what a comparison must keep equal, or at least know."""
    parameters, flops, caches = count_parameters(model), count_flops(model), cache_bytes(model)
    return {
        "parameters": f"{parameters.total:,}",
        "non-embedding parameters": f"{parameters.non_embedding:,}",
        "training FLOPs per token": f"{flops.training:,.0f}",
        "cache bytes per token (bf16)": f"{caches.per_token:,}",
        "cache bytes at full context (bf16)": f"{caches.full_context:,}",
    }


def environment(run: str) -> dict[str, Any]:
    """Read what a run ran on and with, as dotted names."""
    return _flat(RunFolder.open(run).environment())


def _are_runs(*targets: str) -> bool:
    return all((Path(target) / ENVIRONMENT).is_file() for target in targets)


def _between(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    names = [*a, *(name for name in b if name not in a)]
    return [(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    below = [_flat(value, f"{path}.{name}".removeprefix(".")) for name, value in tree.items()]
    return {name: value for leaves in below for name, value in leaves.items()}
