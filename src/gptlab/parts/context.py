"""What travels through a forward pass beside the activations.

B batch, T query tokens, K key/value heads, E d_head.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

V = TypeVar("V")


@dataclass
class Context:
    """One forward pass.

    positions_T: the absolute position of every token, explicit and never inferred from a cache.
    caches: a cache per layer, made by `GPT.new_caches`; None outside of generation.
    first_values_BTKE: the first layer's values of these tokens, where later layers want them.
    """

    positions_T: Tensor
    caches: list[Any] | None = None
    first_values_BTKE: Tensor | None = None
    _computed: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, compute: Callable[[], V]) -> V:
        """Compute what is the same for every layer (angles, masks) once per pass."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]
