"""Linear and embedding layers whose parameters have a role.

Initialization and the optimizers decide by role, never by the suffix of a parameter's name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from gptlab.kernels.dropout import dropout

Role = Literal["embedding", "position", "input", "output", "head", "mixing", "router"]

SMALL = 2**19  # weights: reading more takes longer than whatever another layout saves
_fixed = ContextVar("_fixed", default=False)


class Linear(nn.Linear):
    """A projection. Role `input` reads the stream (or a branch's inside), `output` writes to it.

    Role `mixing` computes the weights with which a residual mixes its streams, `router` those with
    which a mixture of experts chooses.
    `std`: what its values start with where its paper fixes that; None leaves it to the
    initialization. `lr_factor`: what its learning rate is multiplied by, as the initialization
    decides. `per_token`: how many vectors of a token it multiplies, `used`: the fraction of tokens
    that it multiplies at all; both for counting.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        role: Role,
        bias: bool = False,
        std: float | None = None,
        per_token: int = 1,
    ):
        super().__init__(d_in, d_out, bias=bias)
        self.role: Role = role
        self.std, self.per_token = std, per_token
        self.lr_factor = 1.0
        self.used = 1.0


class Projection(Protocol):
    """A linear layer, or what stands for one."""

    @property
    def weight(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor | None: ...
    @property
    def out_features(self) -> int: ...
    def __call__(self, x: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Reordered:
    """A layer whose outputs are given in another order."""

    layer: nn.Linear
    order: Callable[[Tensor], Tensor]  # of the first axis

    @property
    def weight(self) -> Tensor:
        return self.order(self.layer.weight)

    @property
    def bias(self) -> Tensor | None:
        return None if self.layer.bias is None else self.order(self.layer.bias)

    @property
    def out_features(self) -> int:
        return self.layer.out_features

    def __call__(self, x: Tensor, /) -> Tensor:
        return linear(x, self.weight, self.bias)


def side_by_side(x: Tensor, *layers: Projection) -> Sequence[Tensor]:
    """Give what each of these layers makes of x, as one product where joining them pays.

    Small products take longer than their numbers; a layout of the same parameters, which stay
    the layers' own.
    """
    if not _are_worth_joining(x, layers):
        return [layer(x) for layer in layers]
    weights: list[Tensor] = [layer.weight for layer in layers]
    biases = [bias for bias in [layer.bias for layer in layers] if bias is not None]
    bias = torch.cat(biases) if biases else None
    return linear(x, torch.cat(weights), bias).split(
        [layer.out_features for layer in layers], dim=-1
    )


def _are_worth_joining(x: Tensor, layers: Sequence[Projection]) -> bool:
    rows, width = x.numel() // x.shape[-1], sum(layer.out_features for layer in layers)
    if len({layer.bias is None for layer in layers}) > 1:
        return False
    if torch.is_grad_enabled():
        return rows >= width
    if torch.compiler.is_compiling() or not _fixed.get():
        return False
    is_plain = all(isinstance(layer, Linear) for layer in layers)  # in float32
    return is_plain and width * x.shape[-1] <= SMALL  # joined once, for all rows to come


@contextmanager
def fixed_weights() -> Iterator[None]:
    """While a step is recorded: what is made of weights alone is made once."""
    token = _fixed.set(True)
    try:
        yield
    finally:
        _fixed.reset(token)


class Embedding(nn.Embedding):
    """A table of vectors. Role `embedding` is for tokens, `position` for positions."""

    def __init__(self, n_rows: int, d_model: int, role: Role):
        super().__init__(n_rows, d_model)
        self.role: Role = role
        self.std: float | None = None
        self.lr_factor = 1.0

    def forward(self, input: Tensor, head_follows: bool = False) -> Tensor:
        """Look tokens up. `head_follows`: a tied head has been given `for_head`, and is trained."""
        few = head_follows and self._is_added_to_rows(input)
        return embedding(input, self.weight, sparse=few)

    def for_head(self) -> Tensor:
        """Give the table to a head, before tokens are looked up in it with `head_follows`.

        Autograd goes back in the reverse order, so that the head's gradient comes last, and those
        of the tokens are added to a few of its rows. Else they would be a second table, of zeros.
        """
        return torch.ops.aten.alias(self.weight)

    def _is_added_to_rows(self, input: Tensor) -> bool:
        is_eager = type(input) is Tensor and not torch.compiler.is_compiling()
        is_few = input.is_cpu and input.numel() < self.num_embeddings
        return is_eager and is_few

    def reset_parameters(self) -> None:
        """Leave shapes without values alone: torch would import its compiler to draw nothing."""
        if not self.weight.is_meta:
            super().reset_parameters()


class Dropout(nn.Module):
    """Set a fraction of the numbers to 0 in training, and scale the others up."""

    def __init__(self, fraction: float):
        super().__init__()
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.fraction) if self.training and self.fraction else x


class Drawn(nn.Module, ABC):
    """A module that draws the start of its `weight` itself, whatever the initialization says."""

    weight: nn.Parameter

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the first values of `weight`, on the CPU in float32."""


class Vector(Drawn):
    """A learned vector that starts as N(0, std)."""

    def __init__(self, width: int, std: float):
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.zeros(width))

    def draw(self, generator: torch.Generator) -> Tensor:
        return torch.empty(self.weight.shape).normal_(0.0, self.std, generator=generator)

    def forward(self) -> Tensor:
        return self.weight


class Scale(nn.Module):
    """A learned tensor that takes steps of a size of its own (nGPT, arXiv:2410.01131).

    Stored as p, which starts at `scale`, and worth p * start / scale: its value starts at `start`,
    and an Adam step of lr moves it by lr * start / scale.
    """

    def __init__(self, shape: tuple[int, ...], start: float, scale: float):
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, scale))
        self.worth = start / scale

    def forward(self) -> Tensor:
        return self.weight * self.worth


class AfterStep(nn.Module, ABC):
    """A module that has something to do after every step of the optimizer, without gradients."""

    @abstractmethod
    def after_step(self) -> None:
        """Do it; a step is a whole batch, whatever the portions it was computed in."""

    @abstractmethod
    def forget_step(self) -> None:
        """Undo what passes have left behind since the last step: they are taken again."""
