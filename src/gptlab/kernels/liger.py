"""The same functions by the fused Triton kernels of the package `liger-kernel`, for NVIDIA GPUs.

Liger's kernels write into what they are given, to save memory: the gradient of a norm into the
gradient of its output, which a residual shares with its other branch, and a rotation into its
input. Neither is asked for here. The gates of an MLP are overwritten by their own gradients, when
nobody reads them any more.

N tokens, B batch, T tokens of a row, H heads, E d_head, R dimensions in pairs, D d_model,
V vocabulary.
"""

# pyright: reportMissingImports=false

from collections.abc import Callable, Mapping
from typing import Any

import torch
from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction
from liger_kernel.ops.geglu import LigerGELUMulFunction
from liger_kernel.ops.rms_norm import LigerRMSNormFunction
from liger_kernel.ops.rope import rope_backward, rope_forward
from liger_kernel.ops.swiglu import LigerSiLUMulFunction
from torch import Tensor

from gptlab.kernels import cross_entropy, gating, rms_norm, rotation


def gain_then_round(x: Tensor, weight: Tensor | None, eps: float, offset: float) -> Tensor:
    return LigerRMSNormFunction.apply(x, weight, eps, offset, "gemma", False)  # not in place


def round_then_gain(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    return LigerRMSNormFunction.apply(x, weight, eps, offset, "llama", False)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return LigerSiLUMulFunction.apply(gate, up)


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    return LigerGELUMulFunction.apply(gate, up)


def rotate_half(x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
    return _Rotation.apply(x_BTHE, cos_BT1R, sin_BT1R)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor) -> Tensor:
        ctx.save_for_backward(cos_BT1R, sin_BT1R)
        return _turned(rope_forward, x_BTHE, cos_BT1R, sin_BT1R)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _turned(rope_backward, gradients[0], *ctx.saved_tensors), None, None


def _turned(
    turn: Callable[..., tuple[Tensor, ...]], x_BTHE: Tensor, cos_BT1R: Tensor, sin_BT1R: Tensor
) -> Tensor:
    """Turn a copy. The kernel wants queries and keys together: one head of zeros stands in."""
    x_BHTE = x_BTHE.clone(memory_format=torch.contiguous_format).transpose(1, 2)
    B, T, _, E = x_BTHE.shape
    others_B1TE = x_BTHE.new_zeros(B, T, 1, E).transpose(1, 2)
    return turn(x_BHTE, others_B1TE, cos_BT1R[:, :, 0], sin_BT1R[:, :, 0])[0].transpose(1, 2)


def matrix_losses(
    x_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    softcap: float | None = None,
    z_weight: float = 0.0,
    reduction: str = "mean",
) -> dict[str, Tensor]:
    """Compute logits in chunks and their gradient with them, so that they never exist at once.

    Liger's loss includes the penalty, and its gradient; what it gives of the penalty alone has
    none. So the sum of both has the right gradient, and each of them its right value.
    """
    total, penalty, *_ = LigerFusedLinearCrossEntropyFunction.apply(
        x_ND,
        weight_VD,
        targets_N,
        None,  # bias
        None,  # weights of classes
        cross_entropy.IGNORED,
        z_weight,
        0.0,  # label smoothing
        reduction,
        softcap,
        bool(z_weight),
        torch.float32,  # what the chunks' gradients of the matrix are added up in
    )
    return {"loss": total - penalty, "z_loss": penalty} if z_weight else {"loss": total}


KERNELS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    rms_norm.gain_then_round: gain_then_round,
    rms_norm.round_then_gain: round_then_gain,
    rotation.rotate_half: rotate_half,
    gating.swiglu: swiglu,
    gating.geglu: geglu,
    cross_entropy.matrix_losses: matrix_losses,
}

WAITING = {cross_entropy.matrix_losses}  # asks the device how many targets count
