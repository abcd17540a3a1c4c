"""A larger base: the fastest frequency stays, the slowest is divided by the whole factor.

base * factor^(R / (R - 2)) for the base, so factor^(-i / (F - 1)) for frequency i.
"""

import torch
from torch import Tensor


def stretch_by_base(frequency_F: Tensor, factor: float) -> Tensor:
    """Give the frequencies of the larger base."""
    F = len(frequency_F)
    return frequency_F * factor ** -(torch.arange(F, device=frequency_F.device) / (F - 1))


def check_ntk(n_frequencies: int, setting: str) -> None:
    """Raise ValueError where the fastest frequency is the slowest one too."""
    if n_frequencies < 2:
        raise ValueError(
            f"{setting}: heads with {n_frequencies} frequency cannot be stretched by "
            "their base; use linear, or rotate at least 4 dimensions"
        )
