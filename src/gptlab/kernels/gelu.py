"""GELU in its exact form, with the error function (arXiv:1606.08415)."""

import threading

import torch
from torch import Tensor
from torch._C import _nn  # pyright: ignore[reportAttributeAccessIssue]
from torch.overrides import handle_torch_function, has_torch_function_unary

FEW = 2**14  # numbers, up to which oneDNN's form, torch's choice on a CPU, takes 5 times as long


def exact_gelu(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Give x * (1 + erf(x / sqrt 2)) / 2."""
    if torch.compiler.is_compiling():
        return _nn.gelu(x)
    if has_torch_function_unary(x):  # a single operation, for who notes them
        return handle_torch_function(exact_gelu, (x,), x, out=out)
    if threading.current_thread() is not threading.main_thread():
        return _nn.gelu(x, out=out)  # the switch is the whole process's
    is_enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(is_enabled and x.numel() > FEW)
    try:
        return _nn.gelu(x, out=out)
    finally:
        torch._C._set_mkldnn_enabled(is_enabled)
