"""Rows of training text for those who have no data loading of their own."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def tokens_of(job: dict[str, Any]) -> np.ndarray:
    """Map the training tokens."""
    return np.memmap(job["train"], np.uint16, "r")


def random_rows(tokens: np.ndarray, rows: int, length: int) -> Tensor:
    """Draw rows from anywhere in the text, one by one, as small training scripts do."""
    starts = torch.randint(len(tokens) - length, (rows,)).tolist()
    cut = [tokens[start : start + length].astype(np.int64) for start in starts]
    return torch.stack([torch.from_numpy(row) for row in cut])


def device_of(job: dict[str, Any]) -> torch.device:
    """The GPU if there is one, unless the recipe says otherwise."""
    asked = job["device"]
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(asked)
