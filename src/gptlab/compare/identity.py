"""A run's identity: the hash of all that its numbers follow from, the same for whoever asks.

A run that has ended is sealed with it, so that a later study finds the run, and finds it as it was.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from gptlab import files
from gptlab.compare.texts import Facts
from gptlab.runs.folder import CONFIG, ENVIRONMENT, MAX_JSON_BYTES, STATUS, RunFolder
from gptlab.train.environment import code_sha256
from gptlab.train.recipe import Recipe

SEAL = "sealed.json"
SEALED = (CONFIG, ENVIRONMENT, STATUS, "metrics.jsonl")
LENGTH = 12  # of the part that stands in a folder's name
OF_NO_ACCOUNT = (  # in `train`: what no number depends on
    "checkpoint_every",
    "keep_last",
    "log_every",
    "sample_tokens",
    "sample_prompt",
    "tensorboard",
    "wandb",
)
Outcome = Literal["done", "diverged"]


def identity(recipe: Recipe, facts: Facts) -> str:
    """Identify a run of this recipe, here and now. Its threads and the machine are not in it."""
    texts = (facts.data_sha256, facts.tokenizer_sha256)
    return _hash(recipe, *texts, code_sha256(), torch.__version__)


def identity_of(run: RunFolder) -> str:
    """Identify a run by what its folder says of it."""
    known = run.environment()
    names = ("data_sha256", "tokenizer_sha256", "code_sha256")
    version = known.get("machine", {}).get("torch", {}).get("version")
    return _hash(Recipe.parse(run.config_tree()), *(known.get(name) for name in names), version)


def recipe_identity(recipe: Recipe, facts: Facts) -> str:
    """Identify a recipe whatever its seed."""
    return identity(recipe.but(seed=0), facts)


def determining(recipe: Recipe) -> dict[str, Any]:
    """Give the settings that numbers follow from; where texts lie is not one, their hash is."""
    tree = recipe.model_dump(mode="json")
    del tree["name"]
    tree["data"] = recipe.data.without_paths()
    tree["tokenizer"].pop("path", None)
    for name in OF_NO_ACCOUNT:
        del tree["train"][name]
    return tree


def _hash(recipe: Recipe, *hashes: str | None) -> str:
    text = json.dumps([determining(recipe), *hashes], sort_keys=True, allow_nan=False)
    return sha256(text.encode()).hexdigest()


def seal(run: RunFolder, outcome: Outcome) -> None:
    """Note how a run ended and what its files were then."""
    tree = {"identity": identity_of(run), "outcome": outcome, "sha256": _digests(run)}
    files.replace(run.path / SEAL, json.dumps(tree, indent=1).encode() + b"\n")


def sealed(run: RunFolder, expected: str) -> Outcome | None:
    """Tell how a run ended, None if it has not.

    Raises ValueError if it is not the run that is looked for, or is no longer what it was.
    """
    remedy = f"its numbers are not used; put it back as it was, or remove {run.path}"
    if identity_of(run) != expected:
        raise ValueError(f"{run.path / CONFIG} was changed by hand: {remedy}")
    tree = files.read_object(run.path / SEAL, MAX_JSON_BYTES)
    if tree is None:
        return None
    now = _digests(run)
    changed = [name for name in SEALED if tree.get("sha256", {}).get(name) != now[name]]
    if changed or tree.get("outcome") not in ("done", "diverged"):
        raise ValueError(f"{run.path / (changed or [SEAL])[0]} was changed by hand: {remedy}")
    return tree["outcome"]


def _digests(run: RunFolder) -> dict[str, str | None]:
    def of(path: Path) -> str | None:
        return files.digest(path) if path.exists() else None

    return {name: of(run.path / name) for name in SEALED}
