"""Hyper-connections against the equations of arXiv:2409.19606, token by token in float64."""

from collections.abc import Callable

import pytest
import torch
from by_hand import first, norm, second, text
from torch import Tensor, nn

from gptlab.model.accounting import count_flops
from gptlab.model.gpt import GPT, Model

Tiny = Callable[..., Model]
D, N = 48, 3
OF_STREAMS, OF_BRANCHES = 0.5, 1.5  # gains of norms


def perturbed(tiny: Tiny, dynamic: bool) -> GPT:
    """Build a model whose weights are far from where they start, with gains known by hand."""
    residual = {"type": "hyper_connections", "n_streams": N, "dynamic": dynamic}
    gpt = tiny(residual=residual, norm="rms_norm").build().double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.fill_(OF_STREAMS if ".weights." in name else OF_BRANCHES)
    return gpt


def by_the_paper(h_ND: Tensor, weights: nn.Module, branch: Callable, mistake: str) -> Tensor:
    """Connect one branch for one token: columns of `static` are B, A_m, A_r."""
    static = weights.get_parameter("static")
    b, a_m, a_r = static[:, 0], static[:, 1], static[:, 2:]
    if hasattr(weights, "dynamic"):
        w = weights.get_parameter("dynamic.weight").T
        bent = torch.tanh if mistake != "no tanh" else nn.Identity()
        s_beta, s_alpha = (weights.get_parameter(f"scale_of_{each}") for each in "ba")
        if mistake == "scales exchanged":
            s_beta, s_alpha = s_alpha, s_beta
        normed_ND = h_ND if mistake == "no norm" else norm(h_ND, OF_STREAMS)
        b = b + s_beta * bent(normed_ND @ w[:, 0])
        a_m = a_m + s_alpha * bent(normed_ND @ w[:, 1])
        a_r = a_r + s_alpha * bent(normed_ND @ w[:, 2:])
    if mistake == "A_r as it is":
        a_r = a_r.T
    y_D = branch(norm(a_m @ h_ND, OF_BRANCHES))
    return torch.outer(b, y_D) + a_r.T @ h_ND


def largest_difference(tiny: Tiny, dynamic: bool, mistake: str = "") -> float:
    gpt = perturbed(tiny, dynamic)
    x_BTD = torch.randn(2, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    stream, difference = gpt.ends.open(x_BTD), 0.0
    for block in gpt.blocks:
        stream = block.get_submodule("residual")(stream, first, second)
    closed_BTD = gpt.ends.close(stream)
    for b, t in [(0, 0), (1, 2)]:
        h_ND = x_BTD[b, t].repeat(N, 1)
        for block in gpt.blocks:
            for weights, branch in zip(
                block.get_submodule("residual.weights").children(), (first, second), strict=True
            ):
                h_ND = by_the_paper(h_ND, weights, branch, mistake)
        error = (closed_BTD[b, t] - norm(h_ND.sum(0) / N, OF_BRANCHES)).abs().max().item()
        difference = max(difference, error)
    return difference


@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_they_are_their_equations(tiny: Tiny, dynamic: bool):
    assert largest_difference(tiny, dynamic) < 1e-12


@pytest.mark.parametrize("mistake", ["A_r as it is", "no tanh", "no norm", "scales exchanged"])
@torch.no_grad()
def test_the_comparison_notices(tiny: Tiny, mistake: str):
    assert largest_difference(tiny, dynamic=True, mistake=mistake) > 1e-3


@pytest.mark.parametrize("n_streams", [1, 2, 3, 4])
@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_they_start_as_pre_norm(tiny: Tiny, dynamic: bool, n_streams: int):
    residual = {"type": "hyper_connections", "n_streams": n_streams, "dynamic": dynamic}
    logits_BTV = tiny(residual=residual).build()(text())
    expected_BTV = tiny(residual="pre_norm").build()(text())
    atol = 1e-6 if n_streams == 3 else 0  # a mean of three is rounded
    torch.testing.assert_close(logits_BTV, expected_BTV, rtol=0, atol=atol)


@pytest.mark.parametrize("n_streams", [1, 2, 3, 4])
def test_each_branch_reads_the_next_stream_at_first(tiny: Tiny, n_streams: int):
    residual = {"type": "hyper_connections", "n_streams": n_streams}
    gpt = tiny(residual=residual, n_layers=5).build()
    statics = [p for name, p in gpt.named_parameters() if name.endswith(".static")]
    reads = [static[:, 1].argmax().item() for static in statics]
    assert reads == [k % n_streams for k in range(10)]
    assert all(static[:, 1].sum() == 1 for static in statics)


def test_streams_part_in_training(tiny: Tiny):
    """Copies that stayed equal would be one stream, paid for n times."""
    gpt = tiny(residual="hyper_connections").build()
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    for _ in range(3):
        gpt.loss(text(), text().roll(-1, dims=1)).backward()
        optimizer.step()
    stream = gpt.ends.open(gpt.embedding(text()))
    stream = gpt.blocks[0].get_submodule("residual")(stream, first, second)
    assert stream.std(dim=-2).max() > 1e-3


@pytest.mark.parametrize("name", ["hyper_connections", "manifold_hyper_connections"])
def test_autocast_does_not_round_the_stream(tiny: Tiny, name: str):
    gpt = tiny(residual=name).build()
    x_BTD = torch.randn(2, 3, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        stream = gpt.ends.open(x_BTD)
        stream = gpt.blocks[0].get_submodule("residual")(stream, torch.zeros_like, torch.zeros_like)
    assert stream.dtype == torch.float32
    torch.testing.assert_close(stream.mean(-2), x_BTD, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "vectors", "width"),
    [("hyper_connections", 4, D), ("manifold_hyper_connections", 4, 4 * D)],
)
def test_products_for_weights_of_streams_are_counted(
    tiny: Tiny, name: str, vectors: int, width: int
):
    """Of 4 streams, each of four branches makes 4 times 6 weights."""
    more = count_flops(tiny(residual=name)).products - count_flops(tiny()).products
    assert more == 4 * 2 * vectors * (4 + 2) * width
