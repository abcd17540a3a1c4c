"""What is written computes the same; a model without a form there is told what keeps it away."""

from pathlib import Path
from typing import Any

import pytest
import torch
from folders import llama, write_model

from gptlab.config import Config, Part, variant_names
from gptlab.interop.families import families
from gptlab.interop.folder import Folder
from gptlab.interop.matching import choose_family
from gptlab.interop.reading import read_settings, read_weights
from gptlab.model.gpt import Model
from gptlab.recipes import all_recipes

ATTENTION = {"type": "grouped_query", "n_heads": 4, "n_kv_heads": 2, "d_head": 6}
NORM = {"type": "rms_norm", "eps": 0.1}


def logits(gpt: torch.nn.Module) -> torch.Tensor:
    tokens_BT = torch.randint(300, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return gpt.eval()(tokens_BT)


SAME_IN_OTHER_WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "interleaved": ("llama", {"positions": {"type": "rotary", "layout": "interleaved"}}),
    "interleaved with norms of queries and keys": (
        "qwen3",
        {
            "norm": NORM,
            "positions": {"type": "rotary", "layout": "interleaved"},
            "attention": ATTENTION | {"qk_norm": NORM, "bias": True},
        },
    ),
    "interleaved with norms over the width": (
        "olmo2",
        {
            "norm": NORM,
            "residual": "branch_norm",
            "positions": {"type": "rotary", "layout": "interleaved"},
            "attention": ATTENTION | {"qk_norm": NORM, "qk_norm_over": "width"},
        },
    ),
    "half where neighbours are rotated": (
        "cohere2",
        {
            "norm": {"type": "layer_norm", "bias": False},
            "residual": "parallel",
            "head": {"type": "tied", "scale": 0.5},
            "attention": ATTENTION | {"d_head": 4, "window": 5},
        },
    ),
    "a part of a head interleaved": (
        "phi3",
        {"positions": {"type": "rotary", "layout": "interleaved", "fraction": 0.67}},
    ),
    "branches times 1": ("llama", {"residual": {"type": "scaled", "scale": 1, "learned": None}}),
    "muP": ("granite", {"initialization": {"type": "mup", "base_width": 8}, "head": "tied"}),
    "positions of every layer": (
        "llama",
        {"positions": "none", "attention": ATTENTION | {"positions": "rotary"}},
    ),
    "an exception that is none": (
        "llama",
        {"attention": {"type": "alternating", "of": [ATTENTION], "last": ATTENTION}},
    ),
    "training alone": (
        "llama",
        {"dropout": 0.5, "head": {"type": "untied", "z_loss": 1e-4}, "initialization": "flat"},
    ),
}


@pytest.mark.parametrize("name", SAME_IN_OTHER_WORDS)
def test_what_computes_the_same_is_written(name: str, tmp_path: Path):
    expected, changes = SAME_IN_OTHER_WORDS[name]
    model = llama(**changes)
    gpt = model.build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    write_model(tmp_path, model, gpt)
    family, again = read_settings(Folder(tmp_path))
    assert family.model_type == expected
    copy = read_weights(Folder(tmp_path), family, again)
    torch.testing.assert_close(logits(copy), logits(gpt), atol=2e-5, rtol=0)


def test_rows_that_keep_their_place_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = "interleaved with norms of queries and keys"
    monkeypatch.setattr("gptlab.interop.writing.as_in", lambda theirs, ours, name, tensor: tensor)
    with pytest.raises(AssertionError, match="not close"):
        test_what_computes_the_same_is_written(name, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention": ATTENTION | {"softcap": 5.0}},
            "the nearest, llama, has model.attention.softcap=null (is 5.0)",
        ),
        ({"mlp": "geglu"}, "the nearest, llama, has model.mlp=swiglu (is geglu)"),
        (
            {"attention": {"type": "differential", "n_heads": 4}},
            "model.attention=grouped_query (is differential)",
        ),
        (
            {"positions": "alibi", "norm": {"type": "rms_norm", "offset": True}},
            "llama, has model.positions=rotary (is alibi), model.norm.offset=false (is true)",
        ),
    ],
)
def test_a_model_without_a_form_is_told_why(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match="has no Hugging Face form") as caught:
        choose_family(llama(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_of_published_families_are_those_families():
    """Written down as their own family, they are what the papers and configs say."""
    known = {"gemma3": "gemma3_text", "llama3": "llama"}
    found = {}
    for name, recipe in all_recipes().items():
        if known.get(name, name) in families():
            nano = all_recipes().get(f"{name}_nano", recipe)
            found[known.get(name, name)] = choose_family(nano().resolved().model)[0].model_type
    assert len(found) > 6
    assert list(found) == list(found.values())


def test_every_change_of_a_setting_is_kept_or_refused(tmp_path: Path):
    """No setting of a model is lost on the way without a word."""
    for name, changes in every_change(llama()).items():
        model = llama(**changes)
        try:
            gpt = write_model(tmp_path / name, model)
        except ValueError:
            continue
        family, again = read_settings(Folder(tmp_path / name))
        copy = read_weights(Folder(tmp_path / name), family, again)
        torch.testing.assert_close(logits(copy), logits(gpt), atol=1e-6, rtol=0)


def every_change(model: Model) -> dict[str, dict[str, Any]]:
    """Change each number, and switch each switch, of attention, norm, mlp and positions."""
    found = {}
    for slot in ("attention", "norm", "mlp", "positions", "head", "residual"):
        part = getattr(model, slot)
        for name in type(part).model_fields:
            value = getattr(part, name)
            values = {bool: [True], float: [0.25], int: [], type(None): [2, 0.5]}
            for other in values.get(type(value), []):
                settings = part.model_dump(mode="json") | {name: other}
                if _is_valid(model, slot, settings):
                    found[f"{slot}-{name}-{other}"] = {slot: settings}
    assert len(found) > 12
    return found


def _is_valid(model: Config, slot: str, settings: dict[str, Any]) -> bool:
    try:
        Model.parse(model.model_dump(mode="json") | {slot: settings}).build()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("slot", ["attention", "mlp", "norm", "positions", "residual", "head"])
def test_every_part_is_written_or_refused_with_its_name(slot: str):
    """No part breaks a family's `write`; what is written is what was there."""
    kind = Model.model_fields[slot].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Part)
    outcomes = {variant: outcome(slot, variant) for variant in variant_names(kind)}
    assert len([each for each in outcomes.values() if each]) >= 2
    for variant, each in outcomes.items():
        assert each in ("", *families()) or f"model.{slot}" in each, (variant, each)


def outcome(slot: str, variant: str) -> str:
    """Give the family of a model with this part, or why it has none; nothing if it cannot be."""
    heads = {"n_heads": 4} if slot == "attention" else {}
    try:
        model = llama(**{slot: {"type": variant, **heads}})
        model.build()
    except ValueError:  # it needs more than its name, or other parts
        return ""
    try:
        return choose_family(model)[0].model_type
    except ValueError as error:
        return str(error)
