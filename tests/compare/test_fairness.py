"""The guard: what two runs differ in beyond what was declared is found, and keeps them apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import Conduct, MakeRecipe, MakeStudy, values

from gptlab.compare.conduct import How
from gptlab.compare.fairness import declared_by, differing
from gptlab.compare.identity import seal
from gptlab.runs.folder import RunFolder
from gptlab.train.run import resume_run, start_run

MakeRun = Callable[..., RunFolder]


@pytest.fixture
def trained(tiny_recipe: MakeRecipe, tmp_path: Path) -> MakeRun:
    def train(name: str, *settings: str) -> RunFolder:
        recipe = tiny_recipe(f"name={name}", "train.tensorboard=false", *settings)
        return start_run(recipe, tmp_path / "runs", say=lambda text: None).run

    return train


def found(base: RunFolder, variant: RunFolder, declared: set[str]) -> dict[str, str]:
    return {each.what: each.severity for each in differing("x", "", [(base, variant)], declared)}


def test_the_declared_change_alone_is_fair(trained: MakeRun, tiny_recipe: MakeRecipe):
    declared = declared_by(tiny_recipe(), tiny_recipe("model.positions=rotary"))
    assert "model.positions.type" in declared
    severities = found(trained("a"), trained("b", "model.positions=rotary"), declared)
    assert set(severities.values()) == {"note"}
    assert severities.keys() <= declared


@pytest.mark.parametrize(
    ("confound", "what"),
    [
        ("seed=4", {"seed"}),
        ("data.val_fraction=0.2", {"data.val_fraction", "data_sha256", "val_bytes"}),
        ("optimizer.lr=1e-4", {"optimizer.lr"}),
        ("train.steps=5", {"train.steps", "tokens seen"}),
        ("train.batch_tokens=32", {"train.batch_tokens", "tokens seen"}),
    ],
)
def test_a_planted_confound_is_refused(
    confound: str, what: set[str], trained: MakeRun, tiny_recipe: MakeRecipe
):
    declared = declared_by(tiny_recipe(), tiny_recipe("model.positions=rotary"))
    severities = found(trained("a"), trained("b", "model.positions=rotary", confound), declared)
    assert {name for name, severity in severities.items() if severity == "refuses"} == what


@pytest.mark.parametrize(
    ("path", "severity"),
    [
        ("precision", "refuses"),
        ("device", "refuses"),
        ("code_sha256", "refuses"),
        ("kernels", "refuses"),
        ("machine.cpu", "refuses"),
        ("machine.torch.version", "refuses"),
        ("machine.torch.threads", "note"),
    ],
)
def test_another_machine_or_code_is_found(path: str, severity: str, trained: MakeRun):
    a, b = trained("a"), trained("b")
    assert found(a, b, set()) == {}
    replant(b, path, "another")
    assert found(a, b, set()) == {path: severity}


@pytest.mark.parametrize(
    ("path", "severity"), [("machine.cpu", "refuses"), ("machine.torch.threads", "note")]
)
def test_a_run_that_moved_on_its_way_is_found(path: str, severity: str, trained: MakeRun):
    base, moved = trained("a"), trained("b", "train.steps=4")
    here = base.environment()["machine"]
    replant(moved, path, "another")
    resume_run(moved.path, ["train.steps=6"], say=lambda text: None)
    findings = differing("x", "", [(base, moved)], set())
    now = here["cpu"] if path == "machine.cpu" else here["torch"]["threads"]
    assert [(each.what, each.severity, each.variant_value) for each in findings] == [
        (path, severity, f"another, from step 4 {now}")
    ]
    back = trained("c", "train.steps=4")
    resume_run(back.path, ["train.steps=6"], say=lambda text: None)
    assert differing("x", "", [(base, back)], set()) == []


def replant(run: RunFolder, path: str, value: Any) -> None:
    """Change what a run says of where it ran."""
    tree = node = run.environment()
    *groups, last = path.split(".")
    for name in groups:
        node = node[name]
    node[last] = value
    (run.path / "environment.json").write_text(json.dumps(tree))


def test_a_pair_with_a_confound_gets_no_verdict(study: MakeStudy, run: Conduct, how: How):
    """A run of another precision, sealed as if a study had made it."""
    asked = study(seeds=(0, 1, 2))
    first = run(asked)
    assert {each.verdict for each in first.comparisons}.isdisjoint({"not comparable"})
    planted = next(each for each in first.runs if (each.variant, each.seed) == ("rope", 1))
    folder = RunFolder(how.folder(asked) / planted.folder)
    replant(folder, "precision", "bf16")
    seal(folder, "done")
    verdicts = {each.variant: each for each in run(asked).comparisons}
    assert verdicts["rope"].verdict == "not comparable"
    assert "precision is bf16, of the base float32" in verdicts["rope"].text
    assert verdicts["rope"].p is None
    assert verdicts["swiglu"].verdict != "not comparable"
    assert verdicts["swiglu"].family == 1


def test_other_tokens_are_declared_where_the_budget_takes_them(study: MakeStudy, run: Conduct):
    variants = {"swiglu": ("model.mlp=swiglu",)}
    results = run(study("train.steps=200", match="flops", variants=variants, seeds=(0, 1)))
    (found,) = [each for each in results.findings if each.what == "tokens seen"]
    assert (found.declared, found.base_value == found.variant_value) == (True, False)
    assert results.comparisons[0].verdict != "not comparable"


def test_other_threads_are_fair_but_for_what_depends_on_time(
    study: MakeStudy, run: Conduct, how: How
):
    asked = study(seeds=(0, 1, 2), metrics=("bits_per_byte", "tokens_per_second"))
    first = run(asked)
    assert {each.verdict for each in first.comparisons}.isdisjoint({"not comparable"})
    planted = next(each for each in first.runs if (each.variant, each.seed) == ("rope", 1))
    folder = RunFolder(how.folder(asked) / planted.folder)
    replant(folder, "machine.torch.threads", 7)
    seal(folder, "done")
    refused = [each for each in run(asked).comparisons if each.verdict == "not comparable"]
    assert [(each.variant, each.metric) for each in refused] == [("rope", "tokens_per_second")]
    assert "machine.torch.threads is 7, of the base " in refused[0].text
    assert "--jobs 1" in refused[0].text


def test_another_tokenizer_is_fair_if_it_is_declared(study: MakeStudy, run: Conduct):
    results = run(study(variants={"bytes": ("tokenizer=byte",)}))
    refused = [each.what for each in results.findings if each.severity == "refuses"]
    assert refused == []
    assert None not in values(results, "bytes").values()


def test_a_loss_per_token_is_not_compared_across_tokenizers(study: MakeStudy, run: Conduct):
    metrics = ("bits_per_byte", "val_loss", {"type": "steps_to_loss", "target": 2.0})
    variants = {"bytes": ("tokenizer=byte",), "rope": ("model.positions=rotary",)}
    results = run(study(variants=variants, metrics=metrics))
    refused = {
        (each.variant, each.metric): each.text
        for each in results.comparisons
        if each.verdict == "not comparable"
    }
    reason = "not comparable: another tokenizer; use bits_per_byte"
    assert refused == {
        ("bytes", "val_loss"): reason,
        ("bytes", "steps_to_loss(2)"): reason,
    }
