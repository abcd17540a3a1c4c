from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import gptlab
from gptlab.config import Part, find_variant, variant_names
from gptlab.parts.head import Head
from gptlab.show._costs import refused_beside
from gptlab.show._sheets import read_sheet
from gptlab.show._slots import all_slots, find_slot
from gptlab.show.parts import COMMAND, manual, parts

ROOT = Path(__file__).parent.parent.parent


NOT_OF_A_RECIPE = ("gptlab.compare.", "gptlab.probes.")  # what is asked, not what is built


def slots_in_the_folders() -> set[type[Part]]:
    names = [m.name for m in walk_packages(gptlab.__path__, "gptlab.") if m.ispkg]
    return {
        item
        for name in names
        if not name.startswith(NOT_OF_A_RECIPE)
        for item in vars(import_module(name)).values()
        if isinstance(item, type) and issubclass(item, Part) and item.__module__ == name
    }


def test_every_slot_of_the_folders_is_found_and_no_other():
    assert {slot.kind for slot in all_slots().values()} == slots_in_the_folders()


def test_every_variant_of_every_slot_is_listed(capsys: pytest.CaptureFixture[str]):
    parts()
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    for slot in all_slots().values():
        assert slot.path in listed
        assert set(variant_names(slot.kind)) <= set(listed)


def test_settings_are_listed_with_their_defaults(capsys: pytest.CaptureFixture[str]):
    parts("attention")
    out = capsys.readouterr().out
    assert "| `n_kv_heads` | integer or null | null | null means as many as `n_heads`. |" in out
    assert "| `of` | list of attention | required |" in out
    assert "### positions" not in out


def test_an_unknown_slot_gets_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'attention'"):
        parts("atention")


def test_one_variant_is_told_as_in_its_slot(capsys: pytest.CaptureFixture[str]):
    parts("mlp", "relu_squared")
    alone = capsys.readouterr().out
    parts("mlp")
    idea, cost = alone.split("Cost in a model")
    assert idea in capsys.readouterr().out
    assert cost == " of GPT-2's size, beside gelu: parameters =, FLOPs =, cache =.\n\n"
    with pytest.raises(ValueError, match="did you mean 'swiglu'"):
        parts("mlp", "swigloo")


def test_a_variant_inherits_the_meaning_of_settings():
    (softcap,) = (
        setting
        for setting in read_sheet(find_variant(Head, "untied")).settings
        if setting.name == "softcap"
    )
    assert (softcap.kind, softcap.default) == ("number or null", "null")
    assert "logits become c * tanh(logits / c)" in softcap.meaning
    assert "](https://arxiv.org/abs/2408.00118)" in softcap.meaning


def test_what_is_refused_when_built_is_told():
    positions = find_slot("positions")
    assert "model.attention=gated_delta" in refused_beside(positions, "rotary")
    assert "model.attention=gated_delta" not in refused_beside(positions, "learned")


def test_the_manual_is_up_to_date():
    written = (ROOT / "docs" / "parts.md").read_text(encoding="utf-8")
    assert written == manual(), f"docs/parts.md is not what the parts say; run: {COMMAND}"
