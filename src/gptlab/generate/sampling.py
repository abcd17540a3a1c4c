"""Sampling: from the scores of the next token to a choice.

In this order: divide by the temperature; keep the `top_k` most probable tokens; of these, the
fewest that together have at least the probability `top_p` (nucleus sampling, arXiv:1904.09751); of
these, the ones at least `min_p` times as probable as the most probable (arXiv:2407.01082); draw
one. After each step the probabilities of what is left count as summing to 1.

All of it happens on the CPU, with one uniform number per sample and step, so that a seed means the
same choices on any device.

N samples, V vocabulary, C candidates.
"""

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from gptlab.streams import stream_seed

SEVERAL_ROWS, FEW_NUMBERS = 8, 2**16  # between which numpy's sort is several times as fast


class Sampler:
    """Chooses tokens; two samplers with the same settings and seed choose alike.

    temperature: 0 always takes the most probable token, whatever the other settings.
    top_k, top_p, min_p: None for no limit.
    seed: None for another one each time.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
    ):
        if not 0 <= temperature < float("inf"):
            raise ValueError(f"--temperature={temperature} must be a number, 0 or more")
        if top_k is not None and top_k < 1:
            raise ValueError(f"--top-k={top_k} must be at least 1")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"--top-p={top_p} must be above 0 and at most 1")
        if min_p is not None and not 0 <= min_p <= 1:
            raise ValueError(f"--min-p={min_p} must be from 0 to 1")
        self.temperature, self.top_k, self.top_p, self.min_p = temperature, top_k, top_p, min_p
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(stream_seed(seed, "sampling"))

    def __call__(self, logits_NV: Tensor) -> Tensor:
        """Choose a token per sample, as ids_N on the CPU."""
        logits_NV = logits_NV.float().cpu()
        if not isfinite(logits_NV.sum().item()) and not logits_NV.isfinite().all():
            raise ValueError(
                "the model's scores are not finite numbers: its weights are damaged or its "
                "training diverged; use an earlier checkpoint"
            )
        if self.temperature == 0:
            return logits_NV.argmax(-1)
        logits_NC, ids_NC = self._candidates(logits_NV)
        p_NC = logits_NC.double()
        p_NC.sub_(p_NC.amax(-1, keepdim=True))  # keeps tiny temperatures from overflowing
        p_NC = p_NC.div_(self.temperature).softmax(-1)
        if self.top_p is not None:
            before_NC = p_NC.cumsum(-1) - p_NC  # the probability of all better candidates
            p_NC = p_NC.where(before_NC < self.top_p, 0)
        if self.min_p is not None:
            p_NC = p_NC.where(p_NC >= self.min_p * p_NC.amax(-1, keepdim=True), 0)
        choice_N1 = self._draw(p_NC)
        return (choice_N1 if ids_NC is None else ids_NC.gather(-1, choice_N1)).squeeze(1)

    def _candidates(self, logits_NV: Tensor) -> tuple[Tensor, Tensor | None]:
        """Keep the best `top_k`, best first where order matters; ids None for all, in order."""
        if self.top_k is None and self.top_p is None:
            return logits_NV, None
        V = logits_NV.shape[-1]
        return best(logits_NV, min(self.top_k or V, V))

    def _draw(self, p_NC: Tensor) -> Tensor:
        """Find where a uniform number falls among the cumulated probabilities, which need not sum
        to 1. A candidate of probability 0 is never found.
        """
        cumulated_NC = p_NC.cumsum(-1)
        u_N1 = torch.rand(len(p_NC), 1, dtype=torch.float64, generator=self.generator)
        return torch.searchsorted(cumulated_NC, u_N1 * cumulated_NC[:, -1:], right=True)


def best(logits_NV: Tensor, C: int) -> tuple[Tensor, Tensor]:
    """Give the C largest numbers of each row and their ids, the largest first."""
    N, V = logits_NV.shape
    if N < SEVERAL_ROWS or N * V > FEW_NUMBERS:
        values_NC, ids_NC = logits_NV.topk(C)
        return values_NC, ids_NC
    first_V = np.arange(V - 1, -1, -1)  # of equals the first is best
    key_NV = _sortable(logits_NV.detach().numpy())
    key_NV <<= 32
    key_NV |= first_V
    key_NV.partition(V - C)
    key_NC = key_NV[:, V - C :]
    key_NC.sort()
    ids_NC = torch.from_numpy(V - 1 - (key_NC[:, ::-1] & 0xFFFFFFFF))
    return logits_NV.gather(-1, ids_NC), ids_NC


def _sortable(x: np.ndarray) -> np.ndarray:
    """Give integers in the order of float32 numbers, whose bits are a sign and a size."""
    bits = x.view(np.int32)
    return (bits ^ (bits >> 31 & 0x7FFFFFFF)).astype(np.int64)
