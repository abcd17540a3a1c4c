"""LayerScale, ReZero, fixed multipliers and the initial mix, by hand and against pre-norm."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from by_hand import first, norm, second, text
from torch import nn

from gptlab.model.gpt import GPT, Model

Tiny = Callable[..., Model]
LAYER_SCALE = {"type": "scaled", "learned": "channel"}
REZERO = {"type": "scaled", "learned": "branch", "scale": 0}
FIXED = {"type": "scaled", "learned": None, "scale": 0.22}


def wirings(gpt: GPT) -> list[nn.Module]:
    return [block.get_submodule("residual") for block in gpt.blocks]


def build(tiny: Tiny, residual: Any) -> GPT:
    return tiny(residual=residual, norm="rms_norm").build().double()


@pytest.mark.parametrize("settings", [LAYER_SCALE, REZERO, FIXED], ids=lambda x: str(x["learned"]))
@torch.no_grad()
def test_each_branch_has_its_scale(tiny: Tiny, settings: dict[str, Any]):
    wiring, generator = wirings(build(tiny, settings))[0], torch.Generator().manual_seed(0)
    widths = {"channel": 48, "branch": 1, None: 0}
    scales = [torch.tensor(0.22, dtype=torch.float64)] * 2
    if width := widths[settings["learned"]]:
        learned_ND = torch.randn(2, width, generator=generator, dtype=torch.float64)
        wiring.get_parameter("scales").copy_(learned_ND)
        scales = list(learned_ND)
    x_BTD = torch.randn(2, 3, 48, generator=generator, dtype=torch.float64)
    middle_BTD = x_BTD + scales[0] * first(norm(x_BTD))
    expected_BTD = middle_BTD + scales[1] * second(norm(middle_BTD))
    torch.testing.assert_close(wiring(x_BTD, first, second), expected_BTD, rtol=0, atol=1e-12)


@pytest.mark.parametrize("learned", ["channel", "branch", None])
@torch.no_grad()
def test_a_scale_of_one_is_pre_norm(tiny: Tiny, learned: str | None):
    gpt = tiny(residual={"type": "scaled", "learned": learned, "scale": 1}).build()
    assert torch.equal(gpt(text()), tiny(residual="pre_norm").build()(text()))
    other = tiny(residual={"type": "scaled", "learned": learned, "scale": 1.1}).build()
    assert (other(text()) - gpt(text())).abs().max() > 1e-3


@torch.no_grad()
def test_rezero_starts_as_the_identity(tiny: Tiny):
    x_BTD = torch.randn(2, 3, 48)
    for wiring in wirings(tiny(residual=REZERO).build()):
        assert torch.equal(wiring(x_BTD, first, second), x_BTD)


def test_a_model_whose_branches_are_off_for_good_is_refused(tiny: Tiny):
    with pytest.raises(ValueError, match=r"residual\.scale=0 with model\.residual\.learned=null"):
        tiny(residual=FIXED | {"scale": 0}).build()


@torch.no_grad()
def test_initial_mix_goes_back_to_what_the_stream_was_opened_with(tiny: Tiny):
    gpt = build(tiny, "initial_mix")
    weights = [(0.9, 0.2), (1.3, -0.4)]
    initial_BTD = torch.randn(2, 3, 48, dtype=torch.float64)
    stream, expected_BTD = gpt.ends.open(initial_BTD), initial_BTD
    for wiring, (of_stream, of_initial) in zip(wirings(gpt), weights, strict=True):
        wiring.get_parameter("weights").copy_(torch.tensor([of_stream, of_initial]))
        stream = wiring(stream, first, second)
        of_stream, of_initial = wiring.get_parameter("weights").tolist()
        expected_BTD = of_stream * expected_BTD + of_initial * initial_BTD
        expected_BTD = expected_BTD + first(norm(expected_BTD))
        expected_BTD = expected_BTD + second(norm(expected_BTD))
    closed_BTD = gpt.ends.close(stream)
    torch.testing.assert_close(closed_BTD, norm(expected_BTD), rtol=0, atol=1e-12)


@torch.no_grad()
def test_initial_mix_starts_as_pre_norm_or_with_some_of_the_embeddings(tiny: Tiny):
    pre_norm = tiny(residual="pre_norm").build()(text())
    assert torch.equal(tiny(residual="initial_mix").build()(text()), pre_norm)
    for setting in ({"initial_weight": 0.1}, {"stream_weight": 0.9}):
        gpt = tiny(residual={"type": "initial_mix"} | setting).build()
        assert (gpt(text()) - pre_norm).abs().max() > 1e-4
