"""The gated delta rule against `transformers`, and its forms against each other."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gptlab.kernels.delta_rule import delta_rule, delta_rule_by_token, delta_rule_in_chunks
from gptlab.kernels.recurrence import CHUNK

B, H, K, V = 2, 3, 8, 12
LENGTHS = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 5]
Inputs = dict[str, Tensor]
Form = Callable[..., tuple[Tensor, Tensor]]


def inputs(T: int, dtype: torch.dtype = torch.float32) -> Inputs:
    """Make everything that the rule reads, the scale of queries included."""
    generator = torch.Generator().manual_seed(T)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        "q_BHTK": normalize(draw(B, H, T, K), dim=-1) * K**-0.5,
        "k_BHTK": normalize(draw(B, H, T, K), dim=-1),
        "v_BHTV": draw(B, H, T, V),
        "log_decay_BHT": -0.2 * draw(B, H, T).square(),
        "rate_BHT": draw(B, H, T).sigmoid(),
        "state_BHKV": draw(B, H, K, V),
    }


def their_rule(name: str) -> Form:
    pytest.importorskip("transformers")
    theirs: Any = import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    return getattr(theirs, name)


def distance(name: str, T: int, **changed: Tensor) -> float:
    """Measure how far our outputs and states are from theirs; `changed` is for ours alone."""
    given = inputs(T)
    y_BTHV, state_BHKV = their_rule(name)(
        given["q_BHTK"].transpose(1, 2) * K**0.5,
        given["k_BHTK"].transpose(1, 2),
        given["v_BHTV"].transpose(1, 2),
        g=given["log_decay_BHT"].transpose(1, 2),
        beta=given["rate_BHT"].transpose(1, 2),
        initial_state=given["state_BHKV"],
        output_final_state=True,
        use_qk_l2norm_in_kernel=False,
    )
    ours, our_state_BHKV = delta_rule(**(given | changed), segments_BT=None)
    differences = (ours - y_BTHV.transpose(1, 2), our_state_BHKV - state_BHKV)
    return max(x.abs().max().item() for x in differences)


@pytest.mark.parametrize("T", LENGTHS)
@pytest.mark.parametrize(
    "name", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"]
)
def test_it_is_that_of_transformers(name: str, T: int):
    assert distance(name, T) < 2e-6


@pytest.mark.parametrize(
    "mistake",
    [
        lambda given: {"log_decay_BHT": -given["log_decay_BHT"]},
        lambda given: {"rate_BHT": torch.ones(B, H, 40)},
        lambda given: {"k_BHTK": 1.1 * given["k_BHTK"]},
        lambda given: {"log_decay_BHT": given["log_decay_BHT"].roll(1, dims=2)},
        lambda given: {"state_BHKV": torch.zeros(B, H, K, V)},
    ],
    ids=["sign of decay", "no rate", "length of keys", "decay a token late", "state forgotten"],
)
def test_a_mistake_is_seen(mistake: Callable[[Inputs], Inputs]):
    assert distance("torch_recurrent_gated_delta_rule", 40, **mistake(inputs(40))) > 0.01


def segments(T: int) -> Tensor:
    """Texts of all lengths: one ends with a chunk, one is a single token, one begins at once."""
    starts_BT = torch.zeros(2, T, dtype=torch.long)
    starts_BT[0, [0, 5, 6, CHUNK, T - 1]] = 1
    starts_BT[1, [CHUNK - 1, 2 * CHUNK + 7]] = 1
    return starts_BT.cumsum(1)


@pytest.mark.parametrize("T", [CHUNK - 1, 3 * CHUNK - 5])
def test_forms_agree_in_outputs_state_and_every_gradient(T: int):
    segments_BT = segments(3 * CHUNK)[:, :T]
    by_token, in_chunks = (
        with_gradients(form, T, segments_BT) for form in (delta_rule_by_token, delta_rule_in_chunks)
    )
    torch.testing.assert_close(in_chunks, by_token, rtol=1e-10, atol=1e-11)


def with_gradients(form: Form, T: int, segments_BT: Tensor) -> list[Tensor | None]:
    given = {name: x.requires_grad_() for name, x in inputs(T, torch.float64).items()}
    outputs = form(**given, segments_BT=segments_BT)
    weighted = [x * torch.linspace(-1, 1, x.numel()).view_as(x) for x in outputs]
    torch.cat([x.flatten() for x in weighted]).sum().backward()
    return [*outputs, *(x.grad for x in given.values())]


@pytest.mark.parametrize("form", [delta_rule_by_token, delta_rule_in_chunks])
def test_each_text_of_a_row_starts_over(form: Form):
    T = 3 * CHUNK - 5
    given = inputs(T, torch.float64)
    numbers_BT = segments(3 * CHUNK)[:, :T]
    y_BHTV, last_BHKV = form(**given, segments_BT=numbers_BT)
    for row in range(B):
        state_BHKV = given["state_BHKV"][row, None]
        for number in range(int(numbers_BT[row, 0]), int(numbers_BT[row, -1]) + 1):
            of_text = (numbers_BT[row] == number).nonzero().flatten()
            text = {
                name: x[row, None][:, :, of_text]
                for name, x in given.items()
                if name != "state_BHKV"
            }
            if number:
                state_BHKV = torch.zeros_like(state_BHKV)
            y, state_BHKV = form(**text, state_BHKV=state_BHKV, segments_BT=None)
            torch.testing.assert_close(y_BHTV[row, None][:, :, of_text], y)
        torch.testing.assert_close(last_BHKV[row, None], state_BHKV)


def test_pieces_give_what_the_whole_gives():
    given = inputs(150)
    state_BHKV = given.pop("state_BHKV")
    expected_BHTV, expected_BHKV = delta_rule(**given, state_BHKV=state_BHKV)
    pieces, read = [], 0
    for length in (1, 1, 70, 64, 13, 1):
        piece = {name: x[:, :, read : read + length] for name, x in given.items()}
        y_BHTV, state_BHKV = delta_rule(**piece, state_BHKV=state_BHKV)
        pieces.append(y_BHTV)
        read += length
    torch.testing.assert_close(torch.cat(pieces, dim=2), expected_BHTV, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state_BHKV, expected_BHKV, rtol=1e-5, atol=1e-6)


def test_a_head_that_forgets_all_at_once_stays_finite():
    """exp(-30 a token) over a chunk is nothing a float holds; quotients of such would be nan."""
    log_decay_BHT = torch.full((B, H, 100), -30.0, requires_grad=True)
    given = inputs(100) | {"log_decay_BHT": log_decay_BHT}
    y_BHTV, _ = delta_rule(**given)
    own_BHTV = (
        given["rate_BHT"].unsqueeze(-1)
        * (given["q_BHTK"] * given["k_BHTK"]).sum(-1, keepdim=True)
        * given["v_BHTV"]
    )
    torch.testing.assert_close(y_BHTV, own_BHTV, rtol=1e-4, atol=1e-6)
    (gradient_BHT,) = torch.autograd.grad(y_BHTV.sum(), log_decay_BHT)
    assert gradient_BHT.isfinite().all()


def test_the_state_stays_in_float32_under_autocast():
    given = {name: x.bfloat16() for name, x in inputs(100).items()}
    given["state_BHKV"] = given["state_BHKV"].float()
    expected_BHTV, expected_BHKV = delta_rule(**{name: x.float() for name, x in given.items()})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y_BHTV, state_BHKV = delta_rule(**given)
    assert (y_BHTV.dtype, state_BHKV.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(state_BHKV, expected_BHKV)
    torch.testing.assert_close(y_BHTV, expected_BHTV.bfloat16())
