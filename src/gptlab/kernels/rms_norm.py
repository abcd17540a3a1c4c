"""Divide vectors by their root mean square, with a gain or without, in float32 at least.

y = gain * x / sqrt(mean(x^2) + eps), over the last axis, answered in x's type. The gain is
offset + weight; no weight: 1.
"""

from torch import Tensor
from torch.nn.functional import rms_norm

from gptlab.kernels.precision import precise


def gain_then_round(x: Tensor, weight: Tensor | None, eps: float, offset: float) -> Tensor:
    """Multiply by the gain before rounding to x's type (Gemma)."""
    gain = None if weight is None else _gain(weight, offset)
    wide = precise(x) if gain is None else x.to(gain.dtype)
    return rms_norm(wide, x.shape[-1:], gain, eps).to(x.dtype)


def round_then_gain(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    """Round to x's type before multiplying by the gain (Llama). The same in float32."""
    return gain_then_round(x, None, eps, 0.0) * _gain(weight, offset).to(x.dtype)


def _gain(weight: Tensor, offset: float) -> Tensor:
    return offset + precise(weight) if offset else precise(weight)
