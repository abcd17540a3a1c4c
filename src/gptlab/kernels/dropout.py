"""Dropout (arXiv:1207.0580): torch's own, and a faster one for CPUs.

Torch draws one number after the other there, two fifths of a step of `baby`. Here a good and quick
generator (SFC64) fills the bits of a word per element, seeded by torch's own: what is dropped still
follows from torch's generator alone, so that a resumed run goes on exactly.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import dropout as torch_dropout

WORTH_IT = 16_384  # elements from which seeding pays


@dataclass(frozen=True)
class Lanes:
    """How elements lie in words of 32 bits, with which a CPU computes fastest.

    `bits`: of an element that are drawn, all but one. `ones`: a 1 at the low end of each element.
    """

    bits: int
    ones: int


LANES = {4: Lanes(31, 0x1), 2: Lanes(15, 0x10001)}  # by bytes of an element


def dropout(x: Tensor, p: float) -> Tensor:
    """Set elements to 0 with probability p, and scale the others so that the mean stays.

    On a CPU p is rounded to a multiple of 2^-15, and the scale is that of the rounded one.
    """
    is_fast = type(x) is Tensor and x.is_cpu and x.numel() >= WORTH_IT and 0 < p < 1
    fits = x.element_size() in LANES and x.numel() * x.element_size() % 8 == 0
    if not (is_fast and fits) or torch.compiler.is_compiling():
        return torch_dropout(x, p)
    return FastDropout.apply(x, p)


class FastDropout(Function):
    """Keeps the bits of an element or clears them all: without conversions or branches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        lanes = LANES[x.element_size()]
        dropped = min(round(p * 2**lanes.bits), 2**lanes.bits - 1)
        mask = _mask(x.numel() * x.element_size(), dropped, lanes)
        ctx.save_for_backward(mask)
        ctx.scale = 1 / (1 - dropped / 2**lanes.bits)
        return _keep(x, mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (mask,) = ctx.saved_tensors
        return _keep(dy, mask, ctx.scale), None


def _keep(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    if not x.is_contiguous() or x.storage_offset() % 4:
        x = x.clone(memory_format=torch.contiguous_format)
    bits = x.view(-1).view(torch.int32) & mask
    return bits.view(x.dtype).view(x.shape).mul_(scale)


def _mask(n_bytes: int, dropped: int, lanes: Lanes) -> Tensor:
    """Draw words that are all ones where an element is kept, and zero where it is dropped."""
    seed = int(torch.randint(2**63 - 1, ()))
    words = torch.from_numpy(np.random.SFC64(seed).random_raw(n_bytes // 8).view(np.int32))
    words &= _signed((2**lanes.bits - 1) * lanes.ones)
    words += _signed((2**lanes.bits - dropped) * lanes.ones)  # the top bit: is it kept?
    words >>= lanes.bits
    words &= lanes.ones
    words *= _signed(2 ** (lanes.bits + 1) - 1)
    return words


def _signed(word: int) -> int:
    """Read 32 bits as a signed number."""
    return word - 2**32 if word >= 2**31 else word
