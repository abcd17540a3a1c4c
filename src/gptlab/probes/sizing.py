"""A recipe's architecture at the size of a probe: the same parts, narrow and shallow.

What is asked is what layers can do, not how much a large model can store. Widths become those that
suit the probe's, heads are few, MLPs are so narrow that the mixers have to do the work (wide ones
find half of an answer first, and stay there), windows and chunks keep their share of the context,
layers that take turns are one of each kind, and a single layer stays single. Dropout, further heads
for training and what stretches positions are left out.
"""

import math
from typing import Any

from gptlab.model.gpt import Model
from gptlab.probes.tasks import Task
from gptlab.train.recipe import Recipe

D_MODEL, N_LAYERS, N_HEADS, D_FF = 64, 2, 2, 8
OF_THE_TASK = ("model.vocab_size", "model.context_length")
AT_MOST = {"n_experts": 4, "top_k": 2, "n_groups": 1, "top_groups": 1}
INITIAL_STD = 0.06  # GPT-2's 0.02 belongs to twelve times this width
LEFT_OUT = {"dropout": 0.0, "multi_token": None, "scaling": None}


def model_for(task: Task, recipe: Recipe, settings: list[str], own_size: bool) -> Model:
    """Make the model that learns a task: changed by settings, then small, with the task's sizes.

    Numbers that the settings name are kept as they are.

    Raises ValueError for settings that the task decides, and for parts that cannot be so small.
    """
    for name in OF_THE_TASK:
        if any(each.removeprefix("--").startswith(f"{name}=") for each in settings):
            raise ValueError(
                f"{name} is decided by the task; see the settings of {task.variant}, such as "
                f"{task.variant}.{'tokens' if 'vocab' in name else 'length'}"
            )
    changed = recipe.override(settings)
    model = changed.model if own_size else small(changed.model, task.context_length)
    sizes = {"vocab_size": task.vocab_size, "context_length": task.context_length}
    return recipe.but(model=model.but(**sizes)).override(_numbers(settings, changed)).model


def small(model: Model, context_length: int) -> Model:
    """Make a model of the same parts as small as probes want it."""
    tree = _shrunk(model.model_dump(mode="json"), context_length / model.context_length)
    if tree["embedding_scale"]:
        tree["embedding_scale"] *= math.sqrt(D_MODEL / model.d_model)
    if "scale" in tree["initialization"]:
        tree["initialization"]["scale"] = INITIAL_STD
    n_kinds = len(tree["attention"].get("of", ()))
    n_layers = min(model.n_layers, max(N_LAYERS, n_kinds))
    return Model.parse(tree | {"d_model": D_MODEL, "n_layers": n_layers})


def _numbers(settings: list[str], changed: Recipe) -> list[str]:
    """Find the settings that are no parts: these the user wants as they are, however small."""
    found = []
    for setting in settings:
        value: Any = changed.model_dump(mode="json")
        path = setting.removeprefix("--").partition("=")[0].removesuffix(".type")
        for name in path.split("."):
            value = value[int(name) if isinstance(value, list) else name]
        if not isinstance(value, dict | list):
            found.append(setting)
    return found


def _shrunk(tree: dict[str, Any], share: float) -> dict[str, Any]:
    """Go through the settings of a part and of those below it, by their names."""
    heads = tree.get("n_heads") or 1
    return {name: _small(name, value, heads, share) for name, value in tree.items()}


def _small(name: str, value: Any, n_heads: int, share: float) -> Any:
    if name in LEFT_OUT:
        return LEFT_OUT[name]
    if name == "d_ff":
        return D_FF
    if name.startswith("d_") and name != "d_model":
        return None  # what suits the width
    if isinstance(value, dict):
        return _shrunk(value, share)
    if isinstance(value, list):
        kinds = [_shrunk(each, share) if isinstance(each, dict) else each for each in value]
        return [each for i, each in enumerate(kinds) if each not in kinds[:i]]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if name.endswith("heads"):
        return max(1, N_HEADS * value // n_heads)
    if name in ("window", "chunk"):
        return max(2, round(value * share))
    return min(value, AT_MOST.get(name, value))
