"""Linear and embedding layers whose parameters have a role.

Initialization and the optimizers decide by role, never by the suffix of a parameter's name.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Role = Literal["embedding", "position", "input", "output", "head"]


class Linear(nn.Linear):
    """A projection. Role `input` reads the stream (or a branch's inside), `output` writes to it."""

    def __init__(self, d_in: int, d_out: int, role: Role, bias: bool = False):
        super().__init__(d_in, d_out, bias=bias)
        self.role: Role = role


class Embedding(nn.Embedding):
    """A table of vectors. Role `embedding` is for tokens, `position` for positions."""

    def __init__(self, n_rows: int, d_model: int, role: Role):
        super().__init__(n_rows, d_model)
        self.role: Role = role


class Vector(nn.Module):
    """A learned vector that starts as N(0, std), whatever the initialization part says."""

    def __init__(self, width: int, std: float):
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self) -> Tensor:
        return self.weight
