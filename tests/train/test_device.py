"""What is settled on a GPU, and what of other devices is left alone."""

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo import config as dynamo
from torch._inductor import config

from gptlab.train.device import FORMS, set_up

Settled = tuple[str, bool, bool, int]


def settled() -> Settled:
    cuda, order = torch.backends.cuda, config.triton.mix_order_reduction
    return cuda.matmul.fp32_precision, cuda.cudnn_sdp_enabled(), order, dynamo.recompile_limit


@pytest.fixture
def otherwise() -> Iterator[Settled]:
    """Everything is as it should not be, and afterwards as it was."""
    before, cuda = settled(), torch.backends.cuda
    cuda.matmul.fp32_precision = "tf32"
    cuda.enable_cudnn_sdp(True)
    config.triton.mix_order_reduction = True
    dynamo.recompile_limit = 8
    yield settled()
    cuda.matmul.fp32_precision = before[0]
    cuda.enable_cudnn_sdp(before[1])
    config.triton.mix_order_reduction, dynamo.recompile_limit = before[2:]


def test_a_gpu_computes_float32_and_without_known_mistakes(otherwise: Settled):
    assert otherwise == ("tf32", True, True, 8)
    set_up(torch.device("cuda"))
    assert settled() == ("ieee", False, False, FORMS)


def test_other_devices_are_left_alone(otherwise: Settled):
    set_up(torch.device("cpu"))
    assert settled() == otherwise
