"""Cross-entropy of a linear head, without its logits ever being in memory at once.

A chunk of tokens after the other: logits, their softmax, and at once the gradients that follow from
it, so that the backward pass only scales them (as in Liger, arXiv:2410.10989). Softmax and losses
are computed in float32, a few rows at a time that stay in the processor's cache.

N tokens, D d_model, V vocabulary, C tokens of a chunk, S rows of a softmax.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from gptlab.kernels.precision import exact_products

CHUNK = 1024  # tokens: more takes memory, fewer reads and writes the head's gradient more often
AT_ONCE = 2**21  # float32 numbers in a softmax on a CPU: 8 MB
IGNORED = -100  # a target that does not count


def linear_cross_entropy(
    x_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    softcap: float | None = None,
    share: Tensor | float = 1.0,
) -> Tensor:
    """Give share * the sum over targets other than -100 of logsumexp(logits) - logits[target].

    In nats. logits = x weight^T, squeezed to softcap * tanh(logits / softcap) if there is one.
    Products are computed in autocast's type where it is on.
    """
    return LinearCrossEntropy.apply(x_ND, weight_VD, targets_N, softcap, share)


@torch.no_grad()
def linear_nats(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, softcap: float | None = None
) -> Tensor:
    """Give nats_N, of every target by itself, 0 where it is -100; without gradients."""
    dtype = _product_type(x_ND)
    with exact_products(x_ND.device):
        weight_VD = weight_VD.to(dtype)
        parts = zip(x_ND.split(CHUNK), targets_N.split(CHUNK), strict=True)
        nats = [_nats(x.to(dtype) @ weight_VD.t(), targets, softcap) for x, targets in parts]
    return torch.cat(nats)


class LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        softcap: float | None,
        share: Tensor | float,
    ) -> Tensor:
        dtype = _product_type(x_ND)
        loss = torch.zeros((), device=x_ND.device, dtype=_loss_type(dtype))
        dx_ND, dweight_VD = torch.empty_like(x_ND), None
        with exact_products(x_ND.device):
            matrix_VD = weight_VD.to(dtype)
            for start in range(0, len(x_ND), CHUNK):
                chunk = slice(start, start + CHUNK)
                x_CD = x_ND[chunk].to(dtype)
                logits_CV = x_CD @ matrix_VD.t()
                loss += _nats(logits_CV, targets_N[chunk], softcap, share).sum()
                dx_ND[chunk] = logits_CV @ matrix_VD
                product_VD = logits_CV.t() @ x_CD
                if dweight_VD is None:
                    dweight_VD = product_VD.to(weight_VD.dtype)
                else:
                    dweight_VD += product_VD
        ctx.save_for_backward(dx_ND, dweight_VD)
        return loss * share

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Scale in place: for large vocabularies another gradient of the head is much memory.

        Autograd sees that, so going back twice is an error. It is a pass over much memory too; on
        a CPU, nothing is multiplied by one.
        """
        dx_ND, dweight_VD = ctx.saved_tensors
        is_one = type(dloss) is Tensor and dloss.is_cpu and bool(dloss == 1)
        rows = slice(0) if is_one else slice(None)
        dx_ND[rows].mul_(dloss)
        dweight_VD[rows].mul_(dloss)
        return dx_ND, dweight_VD, None, None, None


def _product_type(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _loss_type(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _nats(
    logits_CV: Tensor,
    targets_C: Tensor,
    softcap: float | None,
    share: Tensor | float | None = None,
) -> Tensor:
    """Compute nats_C; with a share, turn the logits into the gradient of share * their sum."""
    S = max(1, AT_ONCE // logits_CV.shape[1]) if logits_CV.is_cpu else len(logits_CV)
    nats = []
    for rows_SV, targets_S in zip(logits_CV.split(S), targets_C.split(S), strict=True):
        counts_S1 = (targets_S != IGNORED)[:, None]
        index_S1 = targets_S.clamp(min=0)[:, None]
        z_SV = rows_SV.to(_loss_type(rows_SV.dtype), copy=True)
        if softcap:
            z_SV.div_(softcap).tanh_().mul_(softcap)
        chosen_S1, most_S1 = z_SV.gather(1, index_S1), z_SV.amax(1, keepdim=True)
        needs_slope = share is not None
        slope_SV = 1 - (z_SV / softcap).square() if softcap and needs_slope else None
        sums_S1 = z_SV.sub_(most_S1).exp_().sum(1, keepdim=True)
        nats.append(((most_S1 + sums_S1.log() - chosen_S1) * counts_S1)[:, 0])
        if share is not None:
            share_S1 = (counts_S1 * share).to(z_SV.dtype)
            z_SV.mul_(share_S1 / sums_S1).scatter_add_(1, index_S1, -share_S1)
            rows_SV.copy_(z_SV if slope_SV is None else z_SV.mul_(slope_SV))
    return torch.cat(nats)
