"""A mask is made once for all layers that see the same, in every pass anew."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gptlab.kernels import attention
from gptlab.kernels.places import Places
from gptlab.model.gpt import Model

T = 150
FULL = {"type": "grouped_query", "n_heads": 4}
CASES: dict[str, tuple[int, bool, dict[str, Any]]] = {
    "documents": (1, True, {"attention": FULL}),
    "windows": (1, False, {"attention": FULL | {"window": 9}}),
    "chunks of documents": (1, True, {"attention": FULL | {"chunk": 9}}),
    "a bias": (1, False, {"attention": FULL, "positions": "alibi"}),
    "a bias in windows": (1, False, {"attention": FULL | {"window": 9}, "positions": "alibi"}),
    "windows beside all": (
        2,
        True,
        {"attention": {"type": "alternating", "of": [FULL | {"window": 9}, FULL]}},
    ),
    "two windows": (
        2,
        False,
        {"attention": {"type": "alternating", "of": [FULL | {"window": w} for w in (9, 70)]}},
    ),
}


def documents(seed: int) -> Places:
    starts_BT = torch.rand(2, T, generator=torch.Generator().manual_seed(seed)) < 0.05
    return Places.packed(starts_BT.cumsum(1))


@pytest.mark.parametrize("case", CASES)
def test_a_mask_is_made_once_a_pass(
    tiny: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, case: str
):
    """What layers share is what each of them makes for itself, and never that of another pass."""
    n_masks, is_packed, settings = CASES[case]
    made: list[Tensor] = []
    visible = attention.visible
    monkeypatch.setattr(attention, "visible", lambda *x: made.append(visible(*x)) or made[-1])
    gpt = tiny(context_length=T, n_layers=4, **settings).build()
    tokens_BT = torch.arange(2 * T).view(2, T) * 7 % 31
    found = []
    for seed in range(2):
        made.clear()
        found.append(gpt(tokens_BT, documents(seed) if is_packed else None))
        assert len(made) == n_masks
    monkeypatch.setattr(Places, "once", lambda places, key, derive: derive())
    expected = [gpt(tokens_BT, documents(seed) if is_packed else None) for seed in range(2)]
    assert all(torch.equal(e, f) for e, f in zip(expected, found, strict=True))
    assert torch.equal(*found) is not is_packed
