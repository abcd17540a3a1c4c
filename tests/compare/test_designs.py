"""Which arms a study has: one at a time, every combination, all but one."""

import pytest
from studies import MakeStudy

from gptlab.compare import arms
from gptlab.compare.arms import Arm, arms_of

THREE = {
    "rope": ("model.positions=rotary",),
    "swiglu": ("model.mlp=swiglu",),
    "rms": ("model.norm=rms_norm",),
}


def parts(arm: Arm) -> set[str]:
    model = arm.recipe.model
    has = {
        "rope": model.positions.variant == "rotary",
        "swiglu": model.mlp.variant == "swiglu",
        "rms": model.norm.variant == "rms_norm",
    }
    return {name for name, is_there in has.items() if is_there}


EXPECTED = {
    "one_at_a_time": {"base": "", "rope": "rope", "swiglu": "swiglu", "rms": "rms"},
    "factorial": {
        "base": "",
        "rope": "rope",
        "swiglu": "swiglu",
        "rms": "rms",
        "rope+swiglu": "rope swiglu",
        "rope+rms": "rope rms",
        "swiglu+rms": "swiglu rms",
        "rope+swiglu+rms": "rope swiglu rms",
    },
    "leave_one_out": {
        "all": "rope swiglu rms",
        "no-rope": "swiglu rms",
        "no-swiglu": "rope rms",
        "no-rms": "rope swiglu",
        "base": "",
    },
}


@pytest.mark.parametrize("design", EXPECTED)
def test_a_design_has_these_arms(design: str, study: MakeStudy):
    arms = arms_of(study(variants=THREE, design=design), lambda text: None)
    assert {arm.name: parts(arm) for arm in arms} == {
        name: set(of.split()) for name, of in EXPECTED[design].items()
    }
    assert [arm.name for arm in arms if arm.reference] == [arms[0].name]


def test_what_a_machine_would_choose_anew_is_fixed(study: MakeStudy):
    asked = study("train.precision=auto", "train.device=auto", "train.tokens=200", variants=THREE)
    for arm in arms_of(asked, lambda text: None):
        train = arm.recipe.train
        assert train.precision in ("float32", "bf16")
        assert train.device in ("cpu", "cuda")
        assert (train.steps, train.tokens) == (4, None)
        assert arm.recipe.model.vocab_size is not None


def test_a_combination_that_undoes_itself_is_refused(study: MakeStudy):
    rivals = {"rope": ("model.positions=rotary",), "alibi": ("model.positions=alibi",)}
    with pytest.raises(ValueError, match=r"variant rope\+alibi is the same as alibi"):
        arms_of(study(variants=rivals, design="factorial"), lambda text: None)


def test_a_whole_recipe_brings_its_parts_and_not_its_text(study: MakeStudy):
    whole = ("llama3_nano", "model.d_model=32", "model.n_layers=1", "model.context_length=8")
    base, llama = arms_of(study(variants={"llama": whole}), lambda text: None)
    assert llama.recipe.model.norm.variant == "rms_norm"
    assert llama.recipe.model.d_model == 32
    assert (llama.recipe.data, llama.recipe.train) == (base.recipe.data, base.recipe.train)
    assert llama.recipe.seed == base.recipe.seed


def test_what_depends_on_how_long_a_run_is_is_chosen_once(
    study: MakeStudy, monkeypatch: pytest.MonkeyPatch
):
    """As `train.compile=auto` on a GPU, where an arm of more FLOPs may be worth compiling."""
    answers = iter((True, False, False, False))
    monkeypatch.setattr(arms, "should_compile", lambda *given: next(answers))
    found = arms_of(study(), lambda text: None)
    assert {(arm.recipe.train.compile, arm.recipe.train.kernels) for arm in found} == {
        ("on", "torch")
    }
