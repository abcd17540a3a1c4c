"""What is settled about a device before a model is built on it: formats, and known mistakes."""

import torch

from gptlab.allocator import keep_freed_memory

FORMS = 64  # of a compiled function


def set_up(device: torch.device) -> None:
    """Settle it for this process.

    On a CPU, memory that is freed stays with it. On a GPU:

    * float32 means float32: no TF32, with its fractions of 10 bits. What is quick is bf16, which
      `train.precision=auto` takes wherever it is fast.
    * No attention of cuDNN's: with a mask its gradients have been nan on H100 and H200, from torch
      2.11 on (pytorch#196678), and with few key/value heads it has given wrong values (#193893).
    * No `mix_order_reduction` in compiled code: from torch 2.10 to 2.13 it has given wrong
      gradients of a vector that several norms share, without any error (#193061).
    * More forms of a compiled function than torch's 8, beyond which it goes on without, in silence:
      FlexAttention has one for each window, softcap and length, and without holds all scores.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cuda.enable_cudnn_sdp(False)
    from torch._dynamo import config as dynamo  # these take a while to import
    from torch._inductor import config as inductor

    inductor.triton.mix_order_reduction = False
    dynamo.recompile_limit = max(dynamo.recompile_limit, FORMS)
