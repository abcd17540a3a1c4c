"""Every pair of variants across slots trains, decodes and survives YAML, or is refused with both.

The pairs are derived from the slots' folders. Nothing else is chosen: a new file is paired with
every part there is.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.config import Part, variant_names
from gptlab.kernels.places import Places
from gptlab.model import legality
from gptlab.model.gpt import GPT, Model

Tiny = Callable[..., Model]
T = 12
NAMED = {  # what a variant needs beside its name
    "alternating": {
        "of": [
            {"type": "grouped_query", "n_heads": 4, "window": 5},
            {"type": "grouped_query", "n_heads": 4, "positions": "none"},
        ]
    },
    "convolution": {"width": 3},
    "differential": {"n_heads": 2},
    "mixture_of_experts": {"n_experts": 4},
}
N_HEADS = {"n_heads": 4}


def slots() -> dict[str, type[Part]]:
    return {
        name: field.annotation
        for name, field in Model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part)
    }


def spec(slot: str, variant: str) -> dict[str, Any]:
    settings = NAMED.get(variant, N_HEADS if slot == "attention" else {})
    return {"type": variant, **settings}


PAIRS = [
    ((a, first), (b, second))
    for a, b in itertools.combinations(slots(), 2)
    for first in variant_names(slots()[a])
    for second in variant_names(slots()[b])
]


def text(B: int) -> Tensor:
    return torch.randint(31, (B, T), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(map("=".join, pair)))
def test_a_pair_works_or_is_refused_with_a_reason(tiny: Tiny, pair: Any):
    model = tiny(**{slot: spec(slot, variant) for slot, variant in pair})
    assert Model.from_yaml(model.to_yaml()) == model
    reason = refusal(model)
    if reason is None:
        gpt = model.build(seed=1)
        trains(gpt)
        decodes(gpt)
        return
    assert all(f"model.{slot}={variant}" in reason for slot, variant in pair)
    assert len(reason.split()) > 12


def refusal(model: Model) -> str | None:
    """Give the sentence with which a model is refused, if it is."""
    try:
        model.build()
    except ValueError as error:
        return str(error)
    return None


def trains(gpt: GPT) -> None:
    """The loss falls, stays finite, and every parameter has moved after a few steps."""
    before = {name: parameter.detach().clone() for name, parameter in gpt.named_parameters()}
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=3e-3, weight_decay=0)
    losses = []
    for _ in range(6):
        parts = gpt.losses(text(4)[:, :-1], text(4)[:, 1:])
        torch.stack(list(parts.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        gpt.after_step()
        losses.append(parts["loss"].item())
    assert losses[-1] < losses[0] - 0.05
    still = [name for name, p in gpt.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@torch.no_grad()
def decodes(gpt: GPT) -> None:
    gpt.eval()
    expected_BTV, caches = gpt(text(2)), gpt.new_caches(T)
    pieces = [(0, 4), (4, 7), *((t, t + 1) for t in range(7, T))]
    read = [gpt(text(2)[:, a:b], Places.counted(a, b), caches) for a, b in pieces]
    torch.testing.assert_close(torch.cat(read, dim=1), expected_BTV, rtol=1e-4, atol=2e-5)


EVERYWHERE = {"type": "grouped_query", "n_heads": 4, "positions": {"type": "rotary", "base": 50}}
FIRST_ONLY = [
    {"type": "grouped_query", "n_heads": 4, "value_residual": True},
    {"type": "grouped_query", "n_heads": 4},
]
REFUSED = {
    "a scale and a branch of zero": (
        {
            "initialization": "zero_output",
            "residual": {"type": "scaled", "learned": "branch", "scale": 0},
        },
        r"^model\.initialization=zero_output does not go with model\.residual=scaled "
        r"model\.residual\.scale=0: .*no gradient.*; start one",
    ),
    "positions that no layer takes": (
        {"positions": "rotary", "attention": EVERYWHERE},
        r"^model\.positions=rotary acts inside of attention.*set model\.positions=none",
    ),
    "values that no layer mixes in": (
        {"attention": {"type": "alternating", "of": FIRST_ONLY}},
        r"^model\.attention: value_residual=true in the first layer alone",
    ),
    "a norm that undoes an attention factor": (
        {
            "positions": {"type": "rotary", "scaling": {"type": "yarn", "factor": 4}},
            "attention": EVERYWHERE
            | {"positions": None, "qk_norm": "rms_norm", "qk_norm_after_rotation": True},
        },
        r"^model\.attention\.qk_norm_after_rotation=true .*attention factor",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_do_nothing_is_refused(tiny: Tiny, case: str):
    settings, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        tiny(**settings).build()


def test_without_the_table_nothing_would_learn(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    """The pair of the table is what it is said to be, and the check above would see it."""
    monkeypatch.setattr(legality, "CLASHES", ())
    gpt = tiny(**REFUSED["a scale and a branch of zero"][0]).build()
    gpt.loss(text(2)[:, :-1], text(2)[:, 1:]).backward()
    for name, parameter in gpt.blocks.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
