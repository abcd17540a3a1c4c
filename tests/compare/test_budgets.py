"""Budgets: what was solved for, against models that are really built."""

from collections.abc import Sequence

import pytest
import torch
from studies import Conduct, MakeStudy
from torch.utils.flop_counter import FlopCounterMode

from gptlab.compare import budget, collecting, timing
from gptlab.compare.arms import arms_of
from gptlab.compare.budget import solve
from gptlab.compare.conduct import How
from gptlab.parts.layers import Embedding, Linear
from gptlab.train.recipe import Recipe

ODD = {
    "swiglu": ("model.mlp=swiglu",),
    "one-kv": ("model.attention.n_kv_heads=1",),
    "deep": ("model.n_layers=3",),
    "wide": ("model.d_model=64",),
    "experts": ("model.mlp=mixture_of_experts", "model.mlp.n_experts=3", "model.mlp.top_k=2"),
    "linear": ("model.attention=linear", "model.attention.n_heads=2"),
    "mixed": ("model.residual=hyper_connections", "model.norm=rms_norm"),
}


def quiet(text: str) -> None:
    """Say nothing."""


def size(recipe: Recipe) -> int:
    """Count the trained numbers of a real model, outside of embeddings and head."""
    gpt = recipe.build()
    tables = {
        id(module.weight)
        for module in gpt.modules()
        if isinstance(module, Embedding | Linear)
        and module.role in ("embedding", "position", "head")
    }
    return sum(p.numel() for p in gpt.parameters() if id(p) not in tables)


@pytest.mark.parametrize("name", ODD)
def test_arms_have_the_parameters_of_the_base(name: str, study: MakeStudy):
    odd = study("model.d_model=48", "model.n_layers=4", variants={name: ODD[name]}, match="params")
    base, arm = arms_of(odd, quiet)
    assert size(arm.recipe) == pytest.approx(size(base.recipe), rel=0.01)
    assert arm.matched is not None
    assert (arm.matched.target, arm.matched.reached) == (size(base.recipe), size(arm.recipe))
    assert arm.recipe.total_steps() == base.recipe.total_steps()
    asked = odd.changed(odd.base, name)
    solved = asked.override([f"{path}={value}" for path, _, value in arm.matched.changes])
    assert solved.model.but(vocab_size=None) == arm.recipe.model.but(vocab_size=None)
    changed = [path for path, _, _ in arm.matched.changes]
    assert changed in ([], ["model.mlp.d_ff"], ["model.mlp.expert.d_ff"], ["model.n_layers"]), (
        changed
    )
    if name == "wide":
        assert arm.recipe.model.d_model == 64
    if name == "deep":
        assert arm.recipe.model.n_layers == 3


def test_flops_are_matched_by_steps(study: MakeStudy):
    odd = study(
        "train.steps=100", variants={"swiglu": ODD["swiglu"], "deep": ODD["deep"]}, match="flops"
    )
    spent = []
    for arm in arms_of(odd, quiet):
        model = arm.recipe.build()
        tokens_BT = torch.zeros(1, 8, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(tokens_BT)
        spent.append(arm.recipe.total_steps() * counter.get_total_flops())
        assert arm.recipe.train.batch_tokens == 64
    assert len({arm.recipe.total_steps() for arm in arms_of(odd, quiet)}) == 3
    assert spent == pytest.approx([spent[0]] * 3, rel=0.03)  # its counter has no causal scores


def test_tokens_are_matched_whatever_a_batch_has(study: MakeStudy):
    odd = study("train.steps=100", variants={"large": ("train.batch_tokens=128",)})
    _, arm = arms_of(odd, quiet)
    assert (arm.recipe.total_steps(), arm.recipe.train.batch_tokens) == (50, 128)


def test_time_is_measured_once_and_matched_by_steps(
    study: MakeStudy, how: How, monkeypatch: pytest.MonkeyPatch
):
    def measure(recipes: Sequence[Recipe]) -> list[float]:
        return [0.1 if recipe.model.mlp.variant == "gelu" else 0.2 for recipe in recipes]

    monkeypatch.setattr(timing, "step_seconds", measure)
    odd = study("train.steps=100", variants={"swiglu": ODD["swiglu"]}, match="time")
    folder = how.folder(odd)
    for _ in range(2):
        _, arm = timing.timed(arms_of(odd, quiet), folder, quiet, keep=True)
        assert arm.recipe.total_steps() == 50
        assert arm.matched
        assert arm.matched.reached == pytest.approx(10.0)
        monkeypatch.setattr(timing, "step_seconds", None)  # never asked again
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    monkeypatch.setattr(timing, "step_seconds", lambda recipes: [0.1 for _ in recipes])
    _, arm = timing.timed(arms_of(odd, quiet), folder, quiet, keep=True)
    assert arm.recipe.total_steps() == 100
    monkeypatch.undo()
    monkeypatch.setattr(timing, "step_seconds", None)
    _, arm = timing.timed(arms_of(odd, quiet), folder, quiet, keep=True)
    assert arm.recipe.total_steps() == 50


@pytest.mark.parametrize(
    ("took", "problem", "text"),
    [
        (10.4, "", "the runs really took the same, within 5%"),
        (12.3, "its runs took 12.3 s, the base's 10 s (+23%)", "swiglu really took another time"),
        (None, "", "within 1% by a step measured beforehand"),
    ],
)
def test_what_runs_really_took_is_told(
    took: float | None,
    problem: str,
    text: str,
    study: MakeStudy,
    how: How,
    run: Conduct,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(timing, "step_seconds", lambda recipes: [0.1 for _ in recipes])
    asked = study(variants={"swiglu": ODD["swiglu"]}, seeds=(0,), match="time")
    seconds = {"base": 10.0, "swiglu": took}
    cost = collecting._cost
    monkeypatch.setattr(
        collecting,
        "_cost",
        lambda conducted, arm, runs: cost(conducted, arm, runs).model_copy(
            update={"seconds": seconds[arm.name]}
        ),
    )
    results = run(asked)
    base, arm = results.budget.matches
    assert (base.took, base.problem) == (10.0, "")
    assert (arm.took, arm.problem) == (took, problem)
    assert text in results.budget.text
    (comparison,) = results.comparisons
    assert comparison.text.endswith(f"; {problem}" if problem else ")")


def test_a_step_is_really_measured(study: MakeStudy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "MOST_SECONDS", 0.0)
    small, large = (arms_of(study(f"model.n_layers={n}", seeds=(0,)), quiet)[0] for n in (1, 16))
    quick, slow = timing.step_seconds([small.recipe, large.recipe])
    assert 0 < quick < slow


@pytest.mark.parametrize(
    ("match", "variant", "fragments"),
    [
        ("params", "model.d_model=256", ("params", "the nearest is", "%")),
        ("flops", "model.n_layers=16", ("flops", "train.steps=1")),
    ],
)
def test_what_cannot_be_matched_says_how_near_it_comes(
    match: str, variant: str, fragments: tuple[str, ...], study: MakeStudy
):
    with pytest.raises(ValueError, match="big: it cannot be matched in") as mistake:
        arms_of(study(variants={"big": (variant,)}, match=match), quiet)
    assert all(fragment in str(mistake.value) for fragment in fragments)
    assert "\n" not in str(mistake.value)


def test_a_size_is_found_where_most_do_not_fit():
    def count(value: int) -> int | None:
        return value * value * 7 + 100 if value % 12 == 0 else None

    assert solve(count, 12, 7 * 120**2) == 120
    assert solve(lambda value: 31 * value + 5, 400, 31 * 96 + 5) == 96


def test_where_no_other_size_is_in_reach_it_stays_what_it_is(
    study: MakeStudy, monkeypatch: pytest.MonkeyPatch
):
    """As a width of 1,024 among 512 heads, which no width in reach could be shared out to."""
    assert solve(lambda value: 10 * value if value % 512 == 0 else None, 1024, 9_000) == 1024
    assert solve(lambda value: value if value < 40 else None, 16, 2_000) < 40
    monkeypatch.setattr(budget, "REACH", 2)
    thin = study(
        "model.attention.n_heads=16", variants={"thin": ("model.mlp.d_ff=70",)}, match="params"
    )
    with pytest.raises(ValueError, match="thin: it cannot be matched in params: the nearest is"):
        arms_of(thin, quiet)
