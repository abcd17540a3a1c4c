"""Where studies come from: a file, or words of a command line."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.compare.metrics import Metric
from gptlab.compare.study import Study
from gptlab.config import Config, nearest
from gptlab.plain_yaml import read_yaml_file

SETTING = re.compile(r",(?=[A-Za-z_][\w.]*=)")  # where one setting of a variant ends
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
    first, comma, rest = settings.partition(",")
    if "=" not in first:
        return name, (first, *(SETTING.split(rest) if comma else ()))
    return name, tuple(SETTING.split(settings))


def variants_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read every --variant. Raises ValueError if two have one name."""
    found: dict[str, tuple[str, ...]] = {}
    for each in words:
        name, settings = variant_of(each)
        if name in found:
            raise ValueError(f"--variant={each}: there is a variant {name!r} already")
        found[name] = settings
    return found


def metric_of(words: str) -> dict[str, Any]:
    """Read `val_loss` or `steps_to_loss,target=1.8`."""
    name, *settings = words.split(",")
    tree: dict[str, Any] = {"type": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--metric={words}: {setting!r} is not of the form setting=value")
        tree[key] = value
    return tree


class _Metrics(Config):
    metrics: tuple[Metric, ...]


def metrics_of(words: Sequence[str]) -> tuple[Metric, ...]:
    """Read every --metric."""
    return _Metrics.parse({"metrics": [metric_of(each) for each in words]}).metrics


def seeds_of(words: str) -> tuple[int, ...]:
    """Read how many seeds, or which: `5`, or `0,3,7`."""
    numbers = words.split(",")
    if not all(number.isdecimal() for number in numbers) or words == "0":
        raise ValueError(f"--seeds={words}: give how many, such as 5, or which, such as 0,1,7")
    return tuple(map(int, numbers)) if len(numbers) > 1 else tuple(range(int(words)))


def one_of(value: str, known: Sequence[str], option: str) -> str:
    """Check a choice. Raises ValueError naming the option."""
    if value not in known:
        raise ValueError(f"{option}={value}: {', '.join(known)} are known{nearest(value, known)}")
    return value
