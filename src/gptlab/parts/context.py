"""What travels through a forward pass beside the activations.

B batch, T query tokens, K key/value heads, E d_head.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from gptlab.kernels.places import Places

V = TypeVar("V")


@dataclass
class Context:
    """One forward pass.

    places: the position of every token, and its document in packed rows.
    caches: a cache per layer, made by `GPT.new_caches`; None outside of generation.
    losses: what parts want minimised beside the main loss, weighted, by name; None but in training.
    first_values_BTKE: the first layer's values of these tokens, where later layers want them.
    keys_and_values: by layer, what `attend` wants of them, where later layers read them too.
    """

    places: Places
    caches: list[Any] | None = None
    losses: dict[str, Tensor] | None = None
    first_values_BTKE: Tensor | None = None
    keys_and_values: dict[int, tuple[Tensor, Tensor, Places | None]] = field(default_factory=dict)
    _computed: dict[Any, Any] = field(default_factory=dict)

    @property
    def positions_BT(self) -> Tensor:
        """The position of every token in its text; B is 1 where all rows agree."""
        return self.places.positions_BT

    @property
    def documents_BT(self) -> Tensor | None:
        """The document of every token; None where every row is one text."""
        return self.places.documents_BT

    def add_loss(self, name: str, loss: Tensor) -> None:
        """Add to an auxiliary loss, of which every layer may have a share."""
        if self.losses is not None:
            self.losses[name] = self.losses[name] + loss if name in self.losses else loss

    def once(self, key: Any, compute: Callable[[], V]) -> V:
        """Compute what is the same for every layer (angles, masks) once per pass."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]
