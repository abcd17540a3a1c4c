"""Keys and values that a layer reads from an earlier one, instead of making its own.

Cross-layer attention, arXiv:2405.12981. The layer that makes them remembers them, and hands them on
through the context if a later one wants them.
"""

from dataclasses import dataclass

from torch import Tensor

from gptlab.kernels.places import Places
from gptlab.parts.context import Context
from gptlab.parts.needs import Needs
from gptlab.parts.positions import Positions

KeysAndValues = tuple[Tensor, Tensor, Places | None]  # k_BKSE, v_BKSE, where they stand
OFFERS = "keys and values"


@dataclass(frozen=True)
class Kind:
    """What must agree for a layer to read another one's keys and values."""

    n_kv_heads: int
    d_head: int
    window: int | None
    chunk: int | None
    positions: Positions | None


class HandOn:
    """Leaves keys and values as they are, and notes them in the context where they are wanted."""

    def __init__(self, layer: int, kind: Kind):
        self.layer, self.kind = layer, kind
        self.is_wanted = False

    def __call__(self, made: KeysAndValues, context: Context) -> KeysAndValues:
        if self.is_wanted:
            context.keys_and_values[self.layer] = made
        return made


def offer(needs: Needs, layer: int, kind: Kind) -> HandOn:
    """Offer a layer's keys and values to later layers."""
    hand_on = HandOn(layer, kind)
    needs.offered.setdefault(OFFERS, []).append(hand_on)
    return hand_on


def find_source(needs: Needs, layer: int, kind: Kind) -> int:
    """Find the nearest earlier layer that makes keys and values of this kind.

    Raises ValueError if there is none, with what is different in the nearest that makes others.
    """
    offers: list[HandOn] = needs.offered.get(OFFERS, [])
    for hand_on in reversed(offers):
        if hand_on.kind == kind:
            hand_on.is_wanted = True
            return hand_on.layer
    setting = f"model.attention.share_kv=true in layer {layer}"
    if not offers:
        raise ValueError(
            f"{setting} reads the keys and values of an earlier layer, of which none makes any; "
            "begin with share_kv=false, e.g. in the first part of `alternating`"
        )
    nearest = offers[-1]
    raise ValueError(
        f"{setting} has {_list(kind, nearest.kind)}, but layer {nearest.layer}, the nearest with "
        f"keys and values of its own, has {_list(nearest.kind, kind)}; make them equal"
    )


def _list(kind: Kind, other: Kind) -> str:
    """List the settings that differ from another's."""
    ours, theirs = vars(kind), vars(other)
    return ", ".join(
        f"{name}={_shown(value)}" for name, value in ours.items() if value != theirs[name]
    )


def _shown(value: int | Positions | None) -> str:
    if isinstance(value, Positions):
        return f"{value.variant}({value})"
    return "null" if value is None else str(value)
