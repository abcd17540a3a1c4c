"""A study from its declaration to its results, and what it does with runs that are there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from studies import Conduct, MakeRecipe, MakeStudy, timeless, values

from gptlab import files
from gptlab.compare import jobs, timing
from gptlab.compare.conduct import How
from gptlab.compare.planning import plan
from gptlab.compare.report.contents import warnings
from gptlab.compare.results import Results
from gptlab.runs.folder import RunFolder
from gptlab.train.run import start_run

EDITS = {"config.yaml": ("lr: 0.002", "lr: 0.003"), "status.json": ("6", "7")}


def test_every_arm_is_run_with_every_seed_and_measured(
    study: MakeStudy, run: Conduct, how: How, tiny_recipe: MakeRecipe, tmp_path: Path
):
    results = run(study(match="params"))
    assert [(run.variant, run.seed, run.state) for run in results.runs] == [
        (arm, seed, "done") for seed in (0, 1) for arm in ("base", "rope", "swiglu")
    ]
    by_hand = tiny_recipe("seed=1", "model.positions=rotary", "name=hand", "train.tensorboard=0")
    alone = start_run(by_hand, tmp_path, say=lambda text: None).run.evaluations()[-1]
    assert values(results, "rope")[1] == alone["bits_per_byte"]
    assert results.runs[0].curve.steps == [1, 2, 3, 4, 6]
    assert [cost.variant for cost in results.costs] == ["base", "rope", "swiglu"]
    assert Results.load(how.folder(study()) / "results.json") == results
    for each in results.runs:
        folder = how.folder(study()) / each.folder
        assert RunFolder.open(folder).evaluations()[-1]["bits_per_byte"] == pytest.approx(
            each.metrics["bits_per_byte"]
        )


def test_what_is_there_is_not_run_again(study: MakeStudy, run: Conduct, performed: list[str]):
    first = run(study())
    assert performed == ["base-s0", "rope-s0", "swiglu-s0", "base-s1", "rope-s1", "swiglu-s1"]
    performed.clear()
    again = run(study())
    assert performed == []
    assert again == first
    run(study(seeds=(0, 1, 2)))
    assert performed == ["base-s2", "rope-s2", "swiglu-s2"]
    performed.clear()
    other = study(
        name="other",
        variants={"turned": "model.positions=rotary", "r": "model.norm=rms_norm"},
    )
    shared = run(other)
    assert performed == ["r-s0", "r-s1"]
    assert values(shared, "turned") == values(first, "rope")


@pytest.mark.parametrize(
    "change", ["optimizer.lr=1e-3", "seed=9", "train.grad_clip=0.5", "data.val_fraction=0.2"]
)
def test_what_determines_a_run_makes_it_another(
    change: str, study: MakeStudy, run: Conduct, performed: list[str]
):
    run(study(seeds=(0,)))
    performed.clear()
    run(study(change, seeds=(0,), name="other"))
    assert len(performed) == (0 if change == "seed=9" else 3)  # seeds are the study's


def test_settings_of_no_account_do_not(study: MakeStudy, run: Conduct, performed: list[str]):
    run(study(seeds=(0,)))
    performed.clear()
    run(study("name=x", "train.checkpoint_every=5", "train.log_every=1", seeds=(0,)))
    assert performed == []


@pytest.mark.parametrize(
    "file", ["metrics.jsonl", "config.yaml", "environment.json", "status.json"]
)
def test_a_run_folder_that_was_edited_is_refused(
    file: str, study: MakeStudy, run: Conduct, how: How
):
    results = run(study(seeds=(0,)))
    edited = how.folder(study()) / results.runs[1].folder / file
    text = edited.read_text()
    old, new = EDITS.get(file, ("1", "2"))
    assert old in text
    edited.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="changed by hand") as mistake:
        run(study(seeds=(0,)))
    assert str(edited.name) in str(mistake.value)
    assert "\n" not in str(mistake.value)
    edited.write_text(text)
    assert run(study(seeds=(0,))) == results


def test_an_arm_that_diverges_is_a_result(study: MakeStudy, run: Conduct, performed: list[str]):
    metrics = ("bits_per_byte", "tokens_per_second")
    wild = study(variants={"wild": ("optimizer.lr=1e30",)}, seeds=(0,), metrics=metrics)
    results = run(wild)
    base, diverged = results.runs
    assert (base.state, diverged.state) == ("done", "diverged")
    assert diverged.metrics == {"bits_per_byte": None, "tokens_per_second": None}
    assert diverged.curve.steps == [1]
    assert "diverged at step" in diverged.problem
    assert results.costs[0].seconds
    assert results.costs[1].seconds is None  # of a run cut short, it is none of the arm's
    assert len(performed) == 2
    assert timeless(run(wild)) == timeless(results)
    assert len(performed) == 2
    assert not [finding for finding in results.findings if not finding.declared]


def test_a_failure_is_kept_shown_and_tried_once_more(
    study: MakeStudy,
    run: Conduct,
    how: How,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    begin, failing = jobs.begin, {"rope": 1, "swiglu": 9}

    def unlucky(recipe: object, *rest: object, **more: object) -> object:
        arm = recipe.name.split("-")[0]  # pyright: ignore
        if failing.get(arm):
            failing[arm] -= 1
            raise OSError(f"no luck with {arm}")
        return begin(recipe, *rest, **more)  # pyright: ignore

    monkeypatch.setattr(jobs, "begin", unlucky)
    results = run(study(seeds=(0,)))
    assert {run.variant: run.state for run in results.runs} == {
        "base": "done",
        "rope": "done",
        "swiglu": "failed",
    }
    assert failing == {"rope": 0, "swiglu": 7}
    failed = results.runs[2]
    assert failed.problem == "OSError: no luck with swiglu (tried 2 times)"
    assert failed.metrics == {}
    kept = (how.folder(study()) / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["attempt"] for line in kept] == [1, 1, 2]
    reported = run(study(seeds=(0,)), replace(how, report_only=True))
    assert (reported.runs, reported.notes) == (results.runs, results.notes)
    assert failing == {"rope": 0, "swiglu": 7}
    shown = capsys.readouterr().err
    assert "rope, seed 0 failed: OSError: no luck with rope; it is tried again" in shown
    assert "it is left out" in shown
    failing.clear()
    whole = run(study(seeds=(0,)))
    assert {(each.state, each.problem) for each in whole.runs} == {("done", "")}
    assert run(study(seeds=(0,)), replace(how, report_only=True)) == whole


def test_a_trial_that_failed_does_not_keep_the_rest_from_being_reported(
    study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    begin = jobs.begin

    def unlucky(recipe: object, *rest: object) -> object:
        if recipe.optimizer.lr == 1e-3:  # pyright: ignore
            raise OSError("no luck")
        return begin(recipe, *rest)  # pyright: ignore

    monkeypatch.setattr(jobs, "begin", unlucky)
    asked = study(seeds=(0,), tune={"lr": [1e-3, 2e-3, 4e-3], "extensions": 0})
    results = run(asked)
    assert {each.state for each in results.runs if each.role == "report"} == {"done"}
    assert sum(each.state == "failed" for each in results.runs) == 3
    reported = run(asked, replace(how, report_only=True))
    assert (reported.runs, reported.tuning) == (results.runs, results.tuning)


def test_failures_of_before_are_read_as_far_as_they_can_be(
    study: MakeStudy, run: Conduct, how: How
):
    run(study(seeds=(0,)))
    lost = files_of(how, "swiglu-s0")
    report, file = replace(how, report_only=True), how.folder(study()) / "failures.jsonl"
    whole = {"run": lost.name, "attempt": 2, "problem": "no luck"}
    lines = [b"", b"[]", b'{"run": "sw', b"\xff", b'{"run": 1, "attempt": "x", "problem": {}}']
    files.remove(lost)
    assert [each.state for each in run(study(seeds=(0,)), report).runs] == ["done", "done"]
    file.write_bytes(b"\n".join([json.dumps(whole).encode(), *lines]))
    results = run(study(seeds=(0,)), report)
    assert (results.runs[2].state, results.runs[2].problem) == (
        "failed",
        "no luck (tried 2 times)",
    )
    assert f"{file}: 5 damaged lines are left out" in results.notes
    file.write_bytes(b"x" * 20_000_000)
    with pytest.raises(ValueError, match=r"failures\.jsonl: larger than .*; remove it") as mistake:
        run(study(seeds=(0,)), report)
    assert "\n" not in str(mistake.value)


def test_a_run_that_failed_elsewhere_is_reported_with_its_reason(
    study: MakeStudy, run: Conduct, how: How
):
    run(study(seeds=(0,)))
    lost = RunFolder(files_of(how, "swiglu-s0"))
    files.remove(lost.path / "sealed.json")
    lost.write_status("failed", 3, "no luck")
    last = run(study(seeds=(0,)), replace(how, report_only=True)).runs[-1]
    assert (last.variant, last.state, last.problem) == ("swiglu", "failed", "no luck")


def files_of(how: How, name: str) -> Path:
    (folder,) = how.root.glob(f"{name}-*")
    return folder


def test_a_target_that_nobody_reaches_is_a_result(study: MakeStudy, run: Conduct):
    near, far = ({"type": "steps_to_loss", "target": x} for x in (2.15, 0.01))
    time = {"type": "seconds_to_loss", "target": 2.15}
    results = run(study("train.steps=30", seeds=(0,), metrics=(near, far, time)))
    assert [metric.name for metric in results.metrics] == [
        "steps_to_loss(2.15)",
        "steps_to_loss(0.01)",
        "seconds_to_loss(2.15)",
    ]
    for each in results.runs:
        assert each.metrics["steps_to_loss(0.01)"] is None
        steps = each.metrics["steps_to_loss(2.15)"]
        assert steps is not None
        pairs = list(zip(each.curve.steps, each.curve.val_loss, strict=True))
        above = [step for step, loss in pairs if loss is not None and loss > 2.15]
        below = [step for step, loss in pairs if loss is not None and loss <= 2.15]
        assert max(above) < steps <= min(below)
        seconds = each.metrics["seconds_to_loss(2.15)"]
        assert seconds is not None
        assert 0 < seconds < each.curve.seconds[-1]


def test_one_seed_is_said_to_tell_nothing(study: MakeStudy, run: Conduct):
    assert sum("one seed" in warning for warning in warnings(run(study(seeds=(4,))))) == 1


def test_report_only_runs_nothing_and_says_what_is_missing(
    study: MakeStudy, run: Conduct, how: How, performed: list[str]
):
    run(study())
    performed.clear()
    report = How(how.root, how.studies, report_only=True)
    results = run(study(seeds=(0, 1, 2)), report)
    assert performed == []
    assert len(results.runs) == 6
    assert "base, seed 2" in " ".join(results.notes)


def test_another_question_does_not_take_the_place_of_results(
    study: MakeStudy, run: Conduct, how: How
):
    kept = run(study(seeds=(0,)))
    one = {"rope": "model.norm=rms_norm"}
    for other in (study("train.steps=4"), study(match="params"), study(variants=one)):
        for do in (run, lambda asked: plan(asked, how, print)):
            with pytest.raises(ValueError, match="asks something else: give this one a") as found:
                do(other)
            assert "--name" in str(found.value)
            assert "\n" not in str(found.value)
    assert Results.load(how.folder(study()) / "results.json") == kept
    more = {"rms": "model.norm=rms_norm"} | study().variants
    assert len(run(study(seeds=(0,), metrics=("val_loss",), variants=more)).runs) == 4


def test_another_text_does_not_take_the_place_of_results(
    study: MakeStudy, run: Conduct, how: How, text_file: Path, tmp_path: Path
):
    moved, other = tmp_path / "moved.txt", tmp_path / "other.txt"
    moved.write_bytes(text_file.read_bytes())
    other.write_bytes(text_file.read_bytes()[::-1])
    kept = run(study(seeds=(0,)))
    for do in (run, lambda asked: plan(asked, how, print)):
        with pytest.raises(ValueError, match="a study of another text: give this one a") as found:
            do(study(f"data.path={other}", seeds=(0,)))
        assert "\n" not in str(found.value)
    assert Results.load(how.folder(study()) / "results.json") == kept
    assert len(run(study(f"data.path={moved}", seeds=(0, 1))).runs) == 6
    file = how.folder(study()) / "text.json"
    file.write_text("{")
    with pytest.raises(ValueError, match=r"text\.json.*--name NAME, or remove"):
        run(study(seeds=(0,)))


def test_a_report_of_nothing_replaces_no_results(study: MakeStudy, run: Conduct, how: How):
    kept = run(study(seeds=(0,)))
    report, folder = How(how.root, how.studies, report_only=True), how.folder(study())
    asked = (folder / "study.yaml").read_text()
    with pytest.raises(ValueError, match="--report-only: none of the 3 runs is in ") as mistake:
        run(study(seeds=(7,)), report)
    assert "\n" not in str(mistake.value)
    assert Results.load(folder / "results.json") == kept
    assert (folder / "study.yaml").read_text() == asked


@pytest.mark.parametrize("changes", [{}, {"tune": {}}, {"match": "time"}])
def test_a_report_that_is_refused_writes_nothing(
    changes: dict[str, object],
    study: MakeStudy,
    run: Conduct,
    how: How,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(timing, "step_seconds", lambda recipes: [0.01] * len(recipes))
    with pytest.raises(ValueError, match="--report-only: "):
        run(study(seeds=(0,), **changes), replace(how, report_only=True))
    assert not how.studies.exists()
    assert not how.root.exists()


def test_a_planted_change_for_the_worse_is_found(study: MakeStudy, run: Conduct):
    silly = study("train.steps=30", variants={"silly": ("optimizer.lr=1e-6",)}, seeds=(0, 1, 2, 3))
    (comparison,) = run(silly).comparisons
    assert comparison.verdict == "worse"
    assert comparison.method == "paired t"
