from importlib import import_module
from pkgutil import walk_packages

import pytest

import gptlab
from gptlab.config import Part, variant_names
from gptlab.show.parts import all_slots, parts


def slots_in_the_folders() -> set[type[Part]]:
    names = [m.name for m in walk_packages(gptlab.__path__, "gptlab.") if m.ispkg]
    return {
        item
        for name in names
        for item in vars(import_module(name)).values()
        if isinstance(item, type) and issubclass(item, Part) and item.__module__ == name
    }


def test_every_slot_of_the_folders_is_found_and_no_other():
    assert {slot for _, slot in all_slots().values()} == slots_in_the_folders()


def test_every_variant_of_every_slot_is_listed(capsys: pytest.CaptureFixture[str]):
    parts()
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    for path, slot in all_slots().values():
        assert path in listed
        assert set(variant_names(slot)) <= set(listed)


def test_settings_are_listed_with_their_defaults(capsys: pytest.CaptureFixture[str]):
    parts("attention")
    out = capsys.readouterr().out
    assert "n_kv_heads = null" in out
    assert "of = (required)" in out
    assert "null: all before it" in out  # what the settings mean
    assert "rotary" not in out


def test_an_unknown_slot_gets_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'attention'"):
        parts("atention")
