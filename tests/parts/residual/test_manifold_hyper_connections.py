"""mHC against the equations of arXiv:2512.24880 in float64, and against `transformers`' module."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from by_hand import first, norm, second, text
from torch import Tensor, nn

from gptlab.model.gpt import GPT, Model
from gptlab.parts.residual.manifold_hyper_connections import sinkhorn

Tiny = Callable[..., Model]
D, N, GAIN = 48, 3, 1.5


def perturbed(tiny: Tiny) -> GPT:
    """Build a model whose weights are far from where they start, with gains known by hand."""
    residual = {"type": "manifold_hyper_connections", "n_streams": N, "keep_bias": 0.5}
    gpt = tiny(residual=residual, norm="rms_norm").build().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.fill_(GAIN)
    return gpt


def connections(gpt: GPT) -> list[nn.Module]:
    """The weights of every branch, first to last."""
    return [
        weights
        for block in gpt.blocks
        for weights in block.get_submodule("residual.weights").children()
    ]


def by_the_paper(x_ND: Tensor, weights: nn.Module, branch: Callable, mistake: str) -> Tensor:
    """Connect one branch for one token."""
    phi, bias = weights.get_parameter("phi.weight").T, weights.get_parameter("bias")
    alpha = weights.get_parameter("alpha")
    flat = x_ND.flatten() if mistake != "streams inside out" else x_ND.T.flatten()
    flat = flat / (flat.square().mean() + 1e-20).sqrt()
    h = flat @ phi
    pre = torch.sigmoid(alpha[0] * h[:N] + bias[:N])
    post = torch.sigmoid(alpha[1] * h[N : 2 * N] + bias[N : 2 * N])
    post = post if mistake == "H_post without 2" else 2 * post
    res = torch.exp(alpha[2] * h[2 * N :] + bias[2 * N :]).reshape(N, N)
    for _ in range(1 if mistake == "one iteration" else 20):
        res = res / res.sum(0, keepdim=True)
        res = res / res.sum(1, keepdim=True)
    if mistake == "H_res turned":
        res = res.T
    return res @ x_ND + torch.outer(post, branch(norm(pre @ x_ND, GAIN)))


def largest_difference(tiny: Tiny, mistake: str = "") -> float:
    gpt = perturbed(tiny)
    x_BTD = torch.randn(2, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    stream, difference = gpt.ends.open(x_BTD), 0.0
    for block in gpt.blocks:
        stream = block.get_submodule("residual")(stream, first, second)
    for b, t in [(0, 0), (1, 2)]:
        x_ND = x_BTD[b, t].repeat(N, 1)
        for k, weights in enumerate(connections(gpt)):
            x_ND = by_the_paper(x_ND, weights, (first, second)[k % 2], mistake)
        difference = max(difference, (stream[b, t] - x_ND).abs().max().item())
    return difference


@torch.no_grad()
def test_they_are_their_equations(tiny: Tiny):
    assert largest_difference(tiny) < 1e-12


@pytest.mark.parametrize(
    "mistake", ["streams inside out", "H_post without 2", "one iteration", "H_res turned"]
)
@torch.no_grad()
def test_the_comparison_notices(tiny: Tiny, mistake: str):
    assert largest_difference(tiny, mistake) > 1e-3


def theirs(weights: nn.Module) -> nn.Module:
    """Make DeepSeek V4's module with the same weights; its H_res is ours turned."""
    deepseek = pytest.importorskip("transformers.models.deepseek_v4.modeling_deepseek_v4")
    sizes = {"hc_mult": N, "hc_sinkhorn_iters": 20, "hidden_size": D}
    config = SimpleNamespace(hc_eps=0.0, rms_norm_eps=1e-20, **sizes)
    module = deepseek.DeepseekV4HyperConnection(config)
    turned = torch.arange(N * N).reshape(N, N).T.flatten() + 2 * N
    order = torch.cat([torch.arange(2 * N), turned])
    module.fn.copy_(weights.get_parameter("phi.weight")[order])
    module.base.copy_(weights.get_parameter("bias")[order])
    module.scale.copy_(weights.get_parameter("alpha"))
    return module


@torch.no_grad()
def test_the_weights_are_those_of_transformers(tiny: Tiny):
    x_BTND = torch.randn(2, 5, N, D, generator=torch.Generator().manual_seed(2))
    for weights in connections(perturbed(tiny).float()):
        post_BTN, comb_BTNM, collapsed_BTD = theirs(weights)(x_BTND)
        read_BTN, write_BTN, mix_BTMN = weights(x_BTND)
        read_BTD = (read_BTN.unsqueeze(-1) * x_BTND).sum(-2)
        torch.testing.assert_close(write_BTN, post_BTN, rtol=0, atol=1e-5)
        torch.testing.assert_close(mix_BTMN, comb_BTNM.mT, rtol=0, atol=1e-5)
        torch.testing.assert_close(read_BTD, collapsed_BTD, rtol=0, atol=1e-5)
        assert (mix_BTMN - comb_BTNM).abs().max() > 0.1


def test_mixing_is_doubly_stochastic():
    """Rows exactly, columns as closely as the iterations allow; no exponential overflows."""
    generator = torch.Generator().manual_seed(0)
    logits_BMN = 2 * torch.randn(1000, 4, 4, generator=generator, dtype=torch.float64)
    mixed_BMN = sinkhorn(logits_BMN, 20)
    assert mixed_BMN.min() > 0
    assert (mixed_BMN.sum(-1) - 1).abs().max() < 1e-12
    columns = (mixed_BMN.sum(-2) - 1).abs()
    assert columns.mean() < 0.01
    assert columns.max() < 0.3
    assert (sinkhorn(logits_BMN, 500).sum(-2) - 1).abs().max() < 1e-3
    assert (sinkhorn(logits_BMN, 1).sum(-2) - 1).abs().mean() > 0.1
    assert sinkhorn(torch.tensor([[1000.0, 0.0], [0.0, -1000.0]]), 20).isfinite().all()


@pytest.mark.parametrize("n_streams", [2, 3, 4])
@torch.no_grad()
def test_they_start_as_pre_norm_but_for_the_dynamic_part(tiny: Tiny, n_streams: int):
    residual = {"type": "manifold_hyper_connections", "n_streams": n_streams}
    gpt, expected_BTV = tiny(residual=residual).build(), tiny().build()(text())
    close = (gpt(text()) - expected_BTV).abs().max()
    for weights in connections(gpt):
        weights.get_parameter("alpha").zero_()
    torch.testing.assert_close(gpt(text()), expected_BTV, rtol=0, atol=1e-6)
    assert 1e-6 < close < 0.01


@torch.no_grad()
def test_biases_are_settings(tiny: Tiny):
    """Each setting moves its own weights to the value it promises."""
    settings = {"n_streams": 4, "read_bias": 1.0, "write_bias": -1.0, "keep_bias": 0}
    gpt = tiny(residual={"type": "manifold_hyper_connections"} | settings).build()
    weights = connections(gpt)[0]
    weights.get_parameter("alpha").zero_()
    read, write, mix = weights(torch.randn(1, 1, 4, D))
    torch.testing.assert_close(read.flatten(), torch.full((4,), 1.0).sigmoid())
    torch.testing.assert_close(write.flatten(), 2 * torch.full((4,), -1.0).sigmoid())
    torch.testing.assert_close(mix[0, 0], torch.full((4, 4), 0.25))
    default = connections(tiny(residual="manifold_hyper_connections").build())[0]
    default.get_parameter("alpha").zero_()
    read, write, mix = default(torch.randn(1, 1, 4, D))
    torch.testing.assert_close(read.sum(), torch.tensor(1.0))
    torch.testing.assert_close(write.flatten(), torch.ones(4))
    torch.testing.assert_close(mix[0, 0].diagonal(), torch.full((4,), 0.948), rtol=0, atol=1e-3)


def test_streams_part_in_training(tiny: Tiny):
    """Copies that stayed equal would be one stream, paid for n times."""
    gpt = tiny(residual="manifold_hyper_connections").build()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    for _ in range(3):
        gpt.loss(text(), text().roll(-1, dims=1)).backward()
        optimizer.step()
    stream = gpt.ends.open(gpt.embedding(text()))
    stream = gpt.blocks[0].get_submodule("residual")(stream, first, second)
    assert stream.std(dim=-2).max() > 1e-3
