"""Packages that only some sources need: imported when one of them is read."""

from importlib import import_module
from typing import Any


def needed(package: str, extra: str, why: str) -> Any:
    """Import a package of an extra. Raises ValueError saying how to install it."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise
        raise ValueError(
            f"{why}: that needs the package {package.partition('.')[0]}; "
            f"install it with: pip install 'gptlab[{extra}]'"
        ) from None
