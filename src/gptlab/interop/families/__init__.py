"""Families: models of Hugging Face, by the `model_type` of their `config.json`.

Contract: the file's name is the `model_type`, and the file holds one `Family`. `read` makes our
`Model` of a config; what it has not asked for is refused afterwards. `write` makes the config that
comes nearest to a model of ours: that it says everything is checked by reading it again.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar

from gptlab.config import nearest
from gptlab.interop.settings import Settings
from gptlab.interop.weights import Table
from gptlab.model.gpt import Model


class Family(ABC):
    """A model type.

    `architecture`: the class of `transformers` that loads it. `body`: what the names of all tensors
    but the head's begin with; checkpoints without a head may leave it out. `buffers`: patterns of
    tensors that some versions stored and that follow from the config.
    """

    architecture: ClassVar[str]
    body: ClassVar[str] = "model."
    buffers: ClassVar[tuple[str, ...]] = (r".*\.rotary_emb\.inv_freq",)

    @property
    def model_type(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def read(self, config: Settings) -> Model:
        """Make our model of a config. Raises ValueError for settings that no part of ours has."""

    @abstractmethod
    def write(self, model: Model) -> dict[str, Any]:
        """Write the config that comes nearest to a model, which is `explicit`."""

    @abstractmethod
    def table(self, model: Model) -> Table:
        """Say where the modules of a model are in a folder of theirs."""

    def other_tables(self, model: Model) -> Sequence[Table]:
        """Say where else they may be, in folders that others have written."""
        return ()


@cache
def families() -> dict[str, Family]:
    """Find every family, by model type; those that others build on come first."""
    found: dict[str, Family] = {}
    for file in iter_modules(__path__):
        if not file.name.startswith("_"):
            module = import_module(f"{__name__}.{file.name}")
            found[file.name] = next(
                item()
                for item in vars(module).values()
                if isinstance(item, type)
                and issubclass(item, Family)
                and item.__module__ == module.__name__
            )
    return dict(sorted(found.items(), key=lambda item: (len(type(item[1]).__mro__), item[0])))


def find_family(config: Settings) -> Family:
    """Choose the family of a config. Raises ValueError with the nearest one if there is none."""
    model_type, known = config.need("model_type", str), sorted(families())
    if model_type not in known:
        raise ValueError(
            f"{config.place}: no family for model_type={model_type[:80]}"
            f"{nearest(model_type, known)} (there are: {', '.join(known)})"
        )
    return families()[model_type]
