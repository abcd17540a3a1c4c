"""What training minimises of logits: the cross-entropy of the targets, and a penalty on their size.

A target of -100 does not count. The penalty is z_weight * logsumexp(logits)^2 (arXiv:2204.02311);
it is there only where z_weight is not 0. Both are a `mean` over the targets that count, or a `sum`.

N tokens, D d_model, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from gptlab.kernels.linear_cross_entropy import IGNORED, linear_cross_entropy, linear_nats
from gptlab.kernels.precision import precise

MANY_LOGITS = 2**22  # from which on they are better never in memory at once


def matrix_losses(
    x_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    softcap: float | None = None,
    z_weight: float = 0.0,
    reduction: str = "mean",
) -> dict[str, Tensor]:
    """Give `logit_losses` of the products with a matrix, capped, in float32 at least."""
    has_gradient = torch.is_grad_enabled()
    is_large = len(x_ND) * len(weight_VD) >= MANY_LOGITS and not torch.compiler.is_compiling()
    if is_large and not z_weight and not (reduction == "none" and has_gradient):
        exact = torch.promote_types(x_ND.dtype, torch.float32)
        share = 1 / (targets_N != IGNORED).sum().to(exact) if reduction == "mean" else 1.0
        if has_gradient:
            return {"loss": linear_cross_entropy(x_ND, weight_VD, targets_N, softcap, share)}
        nats_N = linear_nats(x_ND, weight_VD, targets_N, softcap)
        return {"loss": nats_N if reduction == "none" else nats_N.sum() * share}
    logits_NV = capped(precise(linear(x_ND, weight_VD)), softcap)
    return logit_losses(logits_NV, targets_N, z_weight, reduction)


def logit_losses(
    logits_NV: Tensor, targets_N: Tensor, z_weight: float = 0.0, reduction: str = "mean"
) -> dict[str, Tensor]:
    """Give `loss`, in nats, and `z_loss` where there is one."""
    losses = {"loss": cross_entropy(logits_NV, targets_N, reduction=reduction)}
    if z_weight:
        counts_N = targets_N != IGNORED
        total = z_weight * (logits_NV.logsumexp(-1).square() * counts_N).sum()
        losses["z_loss"] = total / counts_N.sum() if reduction == "mean" else total
    return losses


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Squeeze logits smoothly into (-softcap, softcap)."""
    return logits if softcap is None else softcap * (logits / softcap).tanh()


def scaled(x: Tensor, factor: float) -> Tensor:
    """Multiply, where that changes anything."""
    return x if factor == 1 else factor * x
