"""Recipes: complete configs by name.

A recipe is a function without arguments that returns a `Recipe`; a variation is a recipe plus
overrides. Every public function of every file of this folder is one: `gptlab.recipes.gpt2()`.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from inspect import getmembers, isfunction
from pathlib import Path
from pkgutil import iter_modules

from gptlab.config import nearest
from gptlab.plain_yaml import read_yaml_file
from gptlab.train.recipe import Recipe


@cache
def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Find every recipe, by name."""
    found = {}
    for file in iter_modules(__path__):
        if file.name.startswith("_"):
            continue
        module = import_module(f"{__name__}.{file.name}")
        for name, function in getmembers(module, isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_"):
                found[name] = function
    return found


def find_recipe(name: str) -> Recipe:
    """Make the recipe of this name; ValueError with the nearest name if there is none."""
    if name not in all_recipes():
        known = sorted(all_recipes())
        raise ValueError(f"no recipe named {name!r}{nearest(name, known)} ({', '.join(known)})")
    return all_recipes()[name]()


def open_recipe(target: str) -> Recipe:
    """Read a recipe by name, from a run folder or from a config file."""
    path = Path(target)
    if (path / "config.yaml").is_file():
        path = path / "config.yaml"
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"there is no config file {path}")
        return Recipe.parse(read_yaml_file(path))
    if path.is_dir():
        raise ValueError(f"{path} is not a run folder: it has no config.yaml")
    return find_recipe(target)


def __getattr__(name: str) -> Callable[[], Recipe]:
    if name.startswith("_") or name not in all_recipes():
        raise AttributeError(f"no recipe named {name!r}")
    return all_recipes()[name]
