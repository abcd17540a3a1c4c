"""gptlab: a laboratory for GPT architectures.

`gptlab.load("runs/NAME")` opens a trained model; `gptlab.recipes.gpt2().build()` makes a new one.
Both are imported on first use, so that `import gptlab` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptlab import recipes as recipes
    from gptlab.generate import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "recipes":
        return import_module("gptlab.recipes")
    if name == "load":
        return import_module("gptlab.generate").load
    raise AttributeError(f"module 'gptlab' has no attribute {name!r}")
