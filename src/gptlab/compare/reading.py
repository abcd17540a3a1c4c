"""Where studies come from: a file, or words of a command line."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.compare.shorthand import Metrics, Seeds, settings_in
from gptlab.compare.study import Study
from gptlab.config import Config, nearest
from gptlab.plain_yaml import read_yaml_file

SUFFIXES = (".py", ".yaml", ".yml")


def is_study(target: str) -> bool:
    """Tell a study's file from a recipe's: a `.py`, or YAML that has variants."""
    path = Path(target)
    if path.suffix == ".py":
        return True
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    tree = read_yaml_file(path)
    return isinstance(tree, dict) and "variants" in tree


def read_study(target: str) -> Study:
    """Read a study. A `.py` file is executed: it is the user's own, and defines `study`."""
    path = Path(target)
    if not path.is_file():
        raise ValueError(f"there is no study {path}")
    if path.suffix != ".py":
        return _parse(read_yaml_file(path), path)
    spec = importlib.util.spec_from_file_location(f"study_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{path}: {type(error).__name__}: {what}") from error
    study = getattr(module, "study", None)
    if not isinstance(study, Study):
        raise ValueError(f"{path} defines no study: it needs a line `study = Study(...)`")
    said = " ".join((module.__doc__ or "").strip().partition("\n\n")[0].split())
    return study if study.question else study.but(question=said)


def _parse(tree: Any, path: Path) -> Study:
    if isinstance(tree, dict):
        tree = {"name": path.stem, **tree}
    try:
        return Study.parse(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def variant_of(words: str) -> tuple[str, tuple[str, ...]]:
    """Read `rope:model.positions=rotary,model.norm=rms_norm`, or `llama:llama3_nano`."""
    name, colon, settings = words.partition(":")
    if not name or not colon or not settings:
        raise ValueError(
            f"--variant={words}: give a name and settings, as in rope:model.positions=rotary"
        )
    return name, settings_in(settings)


def variants_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read every --variant. Raises ValueError if two have one name."""
    found: dict[str, tuple[str, ...]] = {}
    for each in words:
        name, settings = variant_of(each)
        if name in found:
            raise ValueError(f"--variant={each}: there is a variant {name!r} already")
        found[name] = settings
    return found


class Measured(Config):
    """What `gptlab noise` takes."""

    seeds: Seeds
    metrics: Metrics


def one_of(value: str, known: Sequence[str], option: str) -> str:
    """Check a choice. Raises ValueError naming the option."""
    if value not in known:
        raise ValueError(f"{option}={value}: {', '.join(known)} are known{nearest(value, known)}")
    return value
