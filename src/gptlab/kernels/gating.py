"""Gates of an MLP: an activation of one projection times another (arXiv:2002.05202)."""

from torch import Tensor
from torch.nn.functional import gelu, silu


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return silu(gate) * up


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up, with GELU in its tanh form."""
    return gelu(gate, approximate="tanh") * up
