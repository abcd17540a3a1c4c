"""Kernels: the functions that compute what costs time, chosen once, when a session begins.

A module holds the plain function of `gptlab.kernels` that it calls. A module of that package with
`KERNELS` maps such functions to others of the same mathematics, which take their place here; what
it has no kernel for stays as it is.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType

import torch
from torch import nn

IN_TORCH, BY_PACKAGE = "flex", "liger"
INDUCTOR = "inductor"  # what torch.compile makes: of blocks, not of functions


def choose_kernels(kernels: str, device: torch.device) -> list[str]:
    """Turn `auto`, `liger` or `torch` into the names of what replaces plain functions.

    Raises ValueError for `liger` where it is not installed or cannot run.
    """
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    if kernels == "liger" and not on_nvidia:
        raise ValueError(
            f"train.kernels=liger needs an NVIDIA GPU, and this run is on {device.type}: use "
            "train.kernels=torch"
        )
    if kernels == "liger" and not is_installed():
        raise ValueError(
            "train.kernels=liger, but liger-kernel is not installed: pip install 'gptlab[liger]', "
            "or use train.kernels=torch"
        )
    if kernels == "torch" or not on_nvidia or not find_spec("triton"):
        return []
    return [IN_TORCH, BY_PACKAGE] if is_installed() else [IN_TORCH]


def is_installed() -> bool:
    """Tell whether the package with fused kernels is there."""
    return find_spec("liger_kernel") is not None


def use_kernels(model: nn.Module, names: Sequence[str], recorded: bool = False) -> None:
    """Give the model's modules the kernels of `gptlab.kernels.NAME` for those that they hold.

    recorded: only such as can be recorded in a CUDA graph, which those in its `WAITING` cannot.
    """
    for name in set(names) - {INDUCTOR}:
        kernels = import_module(f"gptlab.kernels.{name}")
        left_out = getattr(kernels, "WAITING", ()) if recorded else ()
        replacements = {k: v for k, v in kernels.KERNELS.items() if k not in left_out}
        for module in model.modules():
            for attribute, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in replacements:
                    setattr(module, attribute, replacements[value])
