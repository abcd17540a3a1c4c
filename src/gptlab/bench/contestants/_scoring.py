"""The evaluator that all share: the whole validation set in windows of one width, in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

ROWS = 256  # windows at once


@torch.no_grad()
def score(
    model: nn.Module, forward: Callable[[Tensor, Tensor], Tensor], job: dict[str, Any]
) -> float:
    """Compute the mean loss in nats per token; a last window that is not full is left out.

    forward: from x_BT, and y_BT for who wants them, to logits_BTV.
    """
    T, device = job["window"], next(model.parameters()).device
    ids = torch.from_numpy(np.fromfile(job["val"], np.uint16).astype(np.int64)).to(device)
    n = (len(ids) - 1) // T
    x_NT, y_NT = ids[: n * T].view(n, T), ids[1 : n * T + 1].view(n, T)
    was_training = model.training
    model.eval()
    try:
        total = 0.0
        for x_BT, y_BT in zip(x_NT.split(ROWS), y_NT.split(ROWS), strict=True):
            logits_BTV = forward(x_BT, y_BT).float()
            losses = cross_entropy(logits_BTV.flatten(0, 1), y_BT.flatten(), reduction="none")
            total += losses.double().sum().item()
    finally:
        model.train(was_training)
    return total / (n * T)
