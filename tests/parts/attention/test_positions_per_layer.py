from collections.abc import Callable
from typing import Any

import pytest
import torch

from gptlab.config import variant_names
from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention.grouped_query import GroupedQueryAttention
from gptlab.parts.positions import Positions, PositionScheme
from gptlab.parts.positions.rotary import Rotary, RotaryPositions

Tiny = Callable[..., Model]
TOKENS = torch.randint(31, (2, 20), generator=torch.Generator().manual_seed(0))
SLOW = {"type": "rotary", "base": 1e6}


def own(positions: Any) -> dict[str, Any]:
    return {"attention": {"type": "grouped_query", "positions": positions}}


def built(tiny: Tiny, **settings: Any) -> GPT:
    """Build with queries and keys large enough for positions to matter."""
    gpt = tiny(**settings).build().eval()
    with torch.no_grad():
        for mixer in gpt.mixers():
            mixer.get_submodule("query").get_parameter("weight").mul_(20)
            mixer.get_submodule("key").get_parameter("weight").mul_(20)
    return gpt


@pytest.mark.parametrize("positions", ["none", "alibi", "rotary", SLOW])
@torch.no_grad()
def test_what_every_layer_has_of_its_own_is_as_if_the_model_had_it(tiny: Tiny, positions: Any):
    others = SLOW if positions == "rotary" else "rotary"
    of_layers = built(tiny, positions="none", **own(positions))
    of_model = built(tiny, positions=positions)
    assert of_layers.state_dict().keys() == of_model.state_dict().keys()
    assert torch.equal(of_layers(TOKENS), of_model(TOKENS))
    assert (built(tiny, positions=others)(TOKENS) - of_model(TOKENS)).abs().max() > 1e-4


@torch.no_grad()
def test_it_comes_on_top_of_what_the_model_adds_to_the_embeddings(tiny: Tiny):
    logits = [built(tiny, positions="learned", **own(p))(TOKENS) for p in (None, "none", SLOW)]
    assert torch.equal(logits[0], logits[1])
    assert (logits[2] - logits[0]).abs().max() > 1e-4


@pytest.mark.parametrize("positions", variant_names(Positions))
def test_what_marks_embeddings_cannot_belong_to_a_layer(tiny: Tiny, positions: str):
    model = tiny(positions="none", **own(positions))
    if positions in ("learned", "sinusoidal"):
        words = f"model.attention.positions={positions} marks the token embeddings.*model.positions"
        with pytest.raises(ValueError, match=words):
            model.build()
    else:
        model.build()


def test_a_layers_heads_must_fit_its_own_positions(tiny: Tiny):
    attention = {"type": "grouped_query", "n_heads": 16, "positions": "rotary"}
    with pytest.raises(ValueError, match=r"^model\.attention\.positions\.fraction=1.0 of d_head=3"):
        tiny(attention=attention).build()


def test_own_positions_are_reached_by_overrides(tiny: Tiny):
    model = tiny(attention={"type": "alternating", "of": ["grouped_query"] * 3}, n_layers=3)
    model = model.override(
        [
            "attention.of.0.positions=none",
            "attention.of.1.positions=rotary",
            "attention.of.1.positions.base=1e6",
            "positions=rotary",
            "positions.scaling=yarn",
            "positions.scaling.factor=4",
        ]
    )
    assert Model.from_yaml(model.to_yaml()) == model
    assert isinstance(model.positions, Rotary)
    gpt = model.build()
    assert isinstance(gpt.positions, RotaryPositions)
    assert gpt.positions.attention_factor == pytest.approx(1.13863, abs=1e-5)
    without, slow, _ = gpt.mixers()
    assert isinstance(without, GroupedQueryAttention)
    assert isinstance(slow, GroupedQueryAttention)
    without_rotation, slowly = (mixer.mark.one_by_one.rotate for mixer in (without, slow))
    assert type(getattr(without_rotation, "__self__", None)) is PositionScheme
    assert getattr(getattr(slowly, "__self__", None), "config", None) == Rotary(base=1e6)
