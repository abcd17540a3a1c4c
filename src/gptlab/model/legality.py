"""What goes with what. Every part goes with every other one, but for the pairs of this table.

What one part refuses by itself (heads that do not divide, settings that exclude each other) it
refuses when it is built; here stands what none of the two can know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gptlab.config import Config, Part

if TYPE_CHECKING:
    from gptlab.model.gpt import Model
    from gptlab.parts.needs import Needs


@dataclass(frozen=True)
class Choice:
    """A variant in a slot, with the settings that matter, by their names or their paths."""

    slot: str
    variant: str
    settings: tuple[tuple[str, Any], ...] = ()

    def found_in(self, model: "Model") -> str | None:
        """Find it in a model, however deep in its slot, and say it as the user would write it."""
        for path, part in _parts(getattr(model, self.slot), f"model.{self.slot}"):
            if part.variant == self.variant and all(
                getattr(part, name) == value for name, value in self.settings
            ):
                extra = "".join(f" {path}.{name}={_yaml(value)}" for name, value in self.settings)
                return f"{path}={self.variant}{extra}"
        return None


@dataclass(frozen=True)
class Clash:
    """Two choices that do not go together, why, and what to do."""

    one: Choice
    other: Choice
    why: str


ZERO_OUTPUT = Choice("initialization", "zero_output")
CLASHES = (
    Clash(
        ZERO_OUTPUT,
        Choice("residual", "scaled", (("scale", 0.0),)),
        "a branch of zeros times a scale of zero has no gradient in either, so nothing would ever "
        "learn; start one of them elsewhere",
    ),
)


def check_pairs(model: "Model") -> None:
    """Raise ValueError for two parts that do not go together, naming both and why."""
    for clash in CLASHES:
        one, other = clash.one.found_in(model), clash.other.found_in(model)
        if one and other:
            raise ValueError(f"{one} does not go with {other}: {clash.why}")


def check_use(model: "Model", needs: "Needs") -> None:
    """Raise ValueError for what a model offers to its layers and none of them has taken."""
    acts_in_layers = not (model.positions.variant == "none" or needs.positions.marks_embeddings())
    if acts_in_layers and "positions" not in needs.used:
        raise ValueError(
            f"model.positions={model.positions.variant} acts inside of attention, and no layer of "
            f"model.attention={model.attention.variant} takes it: each has positions of its own, "
            "or needs none; set model.positions=none"
        )
    if "first_values" in needs.offered and "first_values" not in needs.used:
        raise ValueError(
            "model.attention: value_residual=true in the first layer alone: it hands its values "
            "on, and no later layer mixes them in; set it in another layer too, or to false"
        )


def _parts(config: Config, path: str) -> Iterator[tuple[str, Part]]:
    """Find a part and all parts below it."""
    if isinstance(config, Part):
        yield path, config
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _parts(value, f"{path}.{name}")
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, Config):
                    yield from _parts(item, f"{path}.{name}.{i}")


def _yaml(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
