"""What attention asks of torch on a GPU, on tensors without contents; its numbers on a real one."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gptlab.kernels import softmax
from gptlab.kernels.attention import attend
from gptlab.kernels.places import Places
from gptlab.kernels.softmax import Scoring, softmax_attention

ON_GPU = torch.cuda.is_available()
SCORING = Scoring(scale=1.0, softcap=None, sinks_H=None, dropout=0.0)
FLOAT32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize(("device", "dtype", "width", "is_masked", "heads_of_keys"), [
    ("cuda", BF16, 64, False, 2),  # flash attention
    ("cuda", FLOAT32, 64, False, 8),
    ("cuda", BF16, 264, False, 8),
    ("cuda", BF16, 64, True, 8),
    ("cpu", FLOAT32, 64, True, 2),
])  # fmt: skip
def test_heads_are_repeated_where_a_fused_kernel_has_no_groups(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    dtype: torch.dtype,
    width: int,
    is_masked: bool,
    heads_of_keys: int,
):
    seen: list[int] = []

    def note(q: Tensor, k: Tensor, v: Tensor, *, enable_gqa: bool, **given: object) -> Tensor:
        assert k.shape[1] == v.shape[1]
        assert enable_gqa is (k.shape[1] != q.shape[1])
        seen.append(k.shape[1])
        return torch.empty(q.shape, device="meta")

    monkeypatch.setattr(softmax, "scaled_dot_product_attention", note)
    with FakeTensorMode():
        q, k = (torch.empty(1, n, 40, width, dtype=dtype, device=device) for n in (8, 2))
        mask = torch.empty(40, 40, dtype=torch.bool, device=device) if is_masked else None
        y = softmax_attention(q, k, k, mask, SCORING, causal=not is_masked)
    assert y.shape == q.shape
    assert seen == [heads_of_keys]


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("window", [None, 16])
@pytest.mark.parametrize("dtype", [FLOAT32, BF16])
def test_attention_on_a_gpu_is_that_on_a_cpu(dtype: torch.dtype, window: int | None):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 200, 32, generator=generator) for n in (4, 2, 2))
    found = []
    for device, kind in (("cpu", FLOAT32), ("cuda", dtype)):
        inputs = [x.to(device, kind).requires_grad_() for x in (q, k, v)]
        places = Places.counted(0, 200, inputs[0].device)
        y = attend(*inputs, queries=places, keys=None, window=window)
        y.float().square().sum().backward()
        found.append([y] + [x.grad for x in inputs if x.grad is not None])
    tolerance = 1e-5 if dtype == FLOAT32 else 2e-2
    for on_cpu, on_gpu in zip(*found, strict=True):
        assert (on_gpu.cpu().float() - on_cpu).abs().max() < tolerance * on_cpu.abs().max()
