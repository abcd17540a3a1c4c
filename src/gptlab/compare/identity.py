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
from gptlab.config import Config
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


class Seal(Config):
    """What is noted of a run that has ended. `sha256`: of its files, null where there is none."""

    identity: str
    outcome: Outcome
    sha256: dict[str, str | None]


def identity(recipe: Recipe, facts: Facts) -> str:
    """Identify a run of this recipe, here and now. Its threads and the machine are not in it."""
    texts = (facts.data_sha256, facts.tokenizer_sha256)
    return _hash(recipe, *texts, code_sha256(), torch.__version__)


def identity_of(run: RunFolder) -> str:
    """Identify a run by what its folder says of it."""
    known = run.environment()
    hashes = [known.get(name) for name in ("data_sha256", "tokenizer_sha256", "code_sha256")]
    version: Any = known
    for name in ("machine", "torch", "version"):
        version = version.get(name) if isinstance(version, dict) else None
    return _hash(_recipe(run), *map(_text, (*hashes, version)))


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
    seal = Seal(identity=identity_of(run), outcome=outcome, sha256=_digests(run))
    files.replace(run.path / SEAL, seal.model_dump_json(indent=1).encode() + b"\n")


def noted(run: RunFolder) -> Outcome | None:
    """Read how a run ended, None if it has not; what it is now is not looked at."""
    seal = _seal_of(run)
    return seal and seal.outcome


def sealed(run: RunFolder, expected: str, recipe: Recipe) -> Outcome | None:
    """Tell how a run ended, None if it has not. `expected`, `recipe`: of the run looked for.

    Raises ValueError if it is another one, or is no longer what it was.
    """
    seal, now = _seal_of(run), _digests(run)
    changed = [name for name in SEALED if seal and seal.sha256.get(name) != now[name]]
    if not changed and identity_of(run) != expected:
        is_told = determining(_recipe(run)) == determining(recipe)
        changed = [ENVIRONMENT if is_told else CONFIG]
    if changed:
        raise ValueError(f"{run.path / changed[0]} was changed by hand: {_remedy(run)}")
    return seal and seal.outcome


def _seal_of(run: RunFolder) -> Seal | None:
    try:
        tree = files.read_object(run.path / SEAL, MAX_JSON_BYTES)
    except ValueError as error:
        raise ValueError(f"{error}; {_remedy(run)}") from None
    try:
        return None if tree is None else Seal.parse(tree)
    except ValueError as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"{run.path / SEAL}: damaged: {problem}; {_remedy(run)}") from None


def _recipe(run: RunFolder) -> Recipe:
    try:
        return Recipe.parse(run.config_tree())
    except ValueError as error:
        problem = str(error).splitlines()[0].removeprefix(f"{run.path / CONFIG}: ")
        raise ValueError(f"{run.path / CONFIG}: {problem}; {_remedy(run)}") from None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _remedy(run: RunFolder) -> str:
    return f"its numbers are not used; put it back as it was, or remove {run.path}"


def _digests(run: RunFolder) -> dict[str, str | None]:
    def of(path: Path) -> str | None:
        return files.digest(path) if path.exists() else None

    return {name: of(run.path / name) for name in SEALED}
