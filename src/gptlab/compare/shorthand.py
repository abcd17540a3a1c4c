"""Short forms of what a study takes: the words of a command line, which a file may have as well."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeInt

from gptlab.compare.metrics import Metric

SETTING = re.compile(r"\s*,\s*(?=[A-Za-z_][\w.]*=)")  # where one setting of a variant ends


def settings_in(words: str) -> tuple[str, ...]:
    """Read `model.positions=rotary,model.norm=rms_norm`, or `llama3_nano,model.d_model=64`."""
    first, comma, rest = map(str.strip, words.partition(","))
    if "=" in first:
        return tuple(SETTING.split(words.strip()))
    return (first, *(SETTING.split(rest) if comma else ()))


def seeds_in(words: Any) -> Any:
    """Read how many seeds, or which: `5`, or `0,3,7`."""
    if not isinstance(words, str | int):
        return words
    numbers = list(map(str.strip, str(words).split(",")))
    if not all(number.isdecimal() for number in numbers) or numbers == ["0"]:
        raise ValueError("give how many, such as 5, or which, such as 0,1,7")
    return tuple(map(int, numbers)) if len(numbers) > 1 else tuple(range(int(numbers[0])))


def tuning_in(words: Any) -> Any:
    """Read `lr`, or `lr=1e-3,2e-3,4e-3`."""
    if not isinstance(words, str):
        return words
    name, equals, values = words.partition("=")
    if name not in ("lr", "optimizer.lr"):
        raise ValueError("the learning rate is tuned: lr, or lr=1e-3,2e-3,4e-3")
    return {"lr": values.split(",")} if equals else {}


def metric_in(words: Any) -> Any:
    """Read `val_loss` or `steps_to_loss,target=1.8`."""
    if not isinstance(words, str):
        return words
    name, *settings = map(str.strip, words.split(","))
    tree: dict[str, Any] = {"type": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} is not of the form setting=value")
        tree[key] = value
    return tree


def _several(words: Any) -> Any:
    return (words,) if isinstance(words, str) else words


Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), BeforeValidator(seeds_in)]
Metrics = Annotated[
    tuple[Annotated[Metric, BeforeValidator(metric_in)], ...], BeforeValidator(_several)
]
