"""Metrics that are computed of a run: right, once, kept in its folder, and safe from hands."""

import json
import math
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from studies import Conduct, MakeRecipe, MakeStudy, metrics_of, timeless, values

from gptlab import files, load
from gptlab.compare import texts
from gptlab.compare.conduct import How
from gptlab.compare.identity import SEAL, SEALED
from gptlab.compare.metrics._kept import Hear
from gptlab.compare.metrics.loss_beyond import LossBeyond
from gptlab.compare.metrics.probe import TUNING_SEED, Probe
from gptlab.compare.noise_runs import measure_noise
from gptlab.compare.results import Results
from gptlab.compare.runner import Stopped
from gptlab.compare.study import Study
from gptlab.compare.texts import text_of
from gptlab.probes.grid import rank, with_rate
from gptlab.probes.learning import Training, learn
from gptlab.probes.sizing import model_for
from gptlab.probes.tasks import Task
from gptlab.runs.folder import RunFolder
from gptlab.show.comparison import show_plan
from gptlab.train.recipe import Recipe

ALIBI = {"alibi": ("model.positions=alibi",)}
BEYOND = {"type": "loss_beyond", "factor": 4}
PROBE = {"type": "probe", "task": "induction", "steps": 3, "rates": [1e-4, 1e-2]}


@pytest.fixture
def beyond(study: MakeStudy) -> Study:
    return study(variants=ALIBI, metrics=["bits_per_byte", BEYOND])


@pytest.fixture
def probed(study: MakeStudy) -> Study:
    return study(variants=ALIBI, metrics=["bits_per_byte", PROBE])


def folder_of(results: Results, how: How, arm: str, seed: int = 0) -> RunFolder:
    found = next(run for run in results.runs if (run.variant, run.seed) == (arm, seed))
    return RunFolder.open(how.studies / results.name / found.folder)


def kept_in(run: RunFolder) -> list[Path]:
    return sorted((run.path / "measured").glob("*.json"))


def label_of(results: Results) -> str:
    return results.metrics[-1].name


def forbid_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(*words: object) -> float:
        raise AssertionError("it is computed once more")

    for metric in (LossBeyond, Probe):
        monkeypatch.setattr(metric, "compute", compute)


def beyond_by_hand(run: RunFolder, factor: int) -> float:
    """Predict token after token beyond the context, from the start of its window on."""
    recipe = Recipe.parse(run.config_tree())
    corpus, model = text_of(run), load(run.path).model
    T, tokens = recipe.model.context_length, np.asarray(corpus.val).astype(np.int64)
    nats = []
    for start in range(0, len(tokens) - factor * T, (factor - 1) * T):
        window = torch.from_numpy(tokens[start : start + factor * T + 1])
        with torch.no_grad():
            logs = model(window[None, :-1])[0].log_softmax(-1)
        nats += [-logs[at, window[at + 1]].item() for at in range(T, factor * T)]
    assert len(nats) > len(tokens) - 2 * factor * T
    return sum(nats) / len(nats) / math.log(2) * (len(tokens) - 1) / corpus.val_bytes


def test_learned_positions_end_and_alibi_reads_on(beyond: Study, run: Conduct, how: How):
    results = run(beyond)
    assert values(results, "base", "loss_beyond(4)") == {0: None, 1: None}
    for seed, value in values(results, "alibi", "loss_beyond(4)").items():
        by_hand = beyond_by_hand(folder_of(results, how, "alibi", seed), 4)
        assert value == pytest.approx(by_hand, rel=1e-5)
    (about,) = [each for each in results.comparisons if each.metric == "loss_beyond(4)"]
    assert (about.lost_base, about.lost_variant) == (2, 0)
    assert "without positions there" in about.text


@pytest.mark.parametrize("metric", [BEYOND, PROBE])
def test_what_was_computed_is_kept_and_its_run_stays_as_it_was(
    metric: dict, study: MakeStudy, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    folder = folder_of(run(study(variants=ALIBI)), how, "alibi")
    before = {name: files.digest(folder.path / name) for name in (*SEALED, SEAL)}
    asked, report = (
        study(variants=ALIBI, metrics=["val_loss", metric]),
        How(how.root, how.studies, report_only=True),
    )
    with pytest.raises(ValueError, match="--report-only: 4 values are not computed yet"):
        run(asked, report)
    results = run(asked)
    assert {name: files.digest(folder.path / name) for name in (*SEALED, SEAL)} == before
    forbid_computing(monkeypatch)
    assert run(asked, report).runs == results.runs
    assert run(asked).runs == results.runs


def test_a_number_that_was_changed_by_hand_is_refused(probed: Study, run: Conduct, how: How):
    (file,) = kept_in(folder_of(run(probed), how, "alibi"))
    tree = json.loads(file.read_text())
    file.write_text(json.dumps(tree | {"value": 0.99}))
    with pytest.raises(ValueError, match=r"measured/probe-\w+\.json was changed by hand"):
        run(probed)
    file.write_text(file.read_text()[:40])
    with pytest.raises(ValueError, match="damaged"):
        run(probed)
    file.unlink()
    run(probed)
    assert json.loads(file.read_text()) == tree


def test_a_number_moved_from_another_run_is_refused(probed: Study, run: Conduct, how: How):
    results = run(probed)
    (mine,), (others,) = (kept_in(folder_of(results, how, "alibi", seed)) for seed in (0, 1))
    mine.write_bytes(others.read_bytes())
    with pytest.raises(ValueError, match="was changed by hand"):
        run(probed)


def test_another_setting_or_another_checkpoint_is_computed_anew(
    beyond: Study, run: Conduct, how: How
):
    folder = folder_of(run(beyond), how, "alibi")
    run(beyond.but(metrics=("bits_per_byte", {"type": "loss_beyond"}), name="nearer"))
    assert len(kept_in(folder)) == 2
    metric = LossBeyond(factor=4)
    manifest = next(folder.checkpoints.glob("*/MANIFEST.json"))
    assert metric.is_kept(folder)
    assert metric.but(margin=0.5).is_kept(folder)
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert not metric.is_kept(folder)


def test_a_text_that_moved_is_read_where_it_is_and_one_that_was_edited_is_not(
    study: MakeStudy, run: Conduct, how: How, text_file: Path, tmp_path: Path
):
    """Runs were made with the text where it was, which is another one by now."""
    was, is_now = tmp_path / "was.txt", tmp_path / "is now.txt"
    was.write_bytes(text_file.read_bytes())
    run(study(f"data.path={was}", variants=ALIBI))
    is_now.write_bytes(was.read_bytes())
    was.write_bytes(was.read_bytes()[::-1])
    results = run(study(f"data.path={is_now}", variants=ALIBI, metrics=["val_loss", BEYOND]))
    folder = folder_of(results, how, "alibi")
    assert str(was) in (folder.path / "config.yaml").read_text()
    expected = beyond_by_hand(folder, 4)
    assert values(results, "alibi", "loss_beyond(4)")[0] == pytest.approx(expected, rel=1e-5)
    texts._texts.clear()
    with pytest.raises(ValueError, match="is not the one that this study reads"):
        LossBeyond(factor=4).compute(folder, lambda done, most: None)


def test_a_checkpoint_that_was_lost_is_told_with_its_remedy(
    beyond: Study, run: Conduct, how: How, performed: list[str]
):
    results, report = run(beyond), How(how.root, how.studies, report_only=True)
    folder = folder_of(results, how, "alibi")
    files.remove(next(folder.checkpoints.glob("*-00000006")))
    for elsewhere in (how, report):
        with pytest.raises(ValueError, match="has lost the checkpoint of its end") as mistake:
            run(beyond, elsewhere)
        assert f"{folder.path.resolve()}" in str(mistake.value)
        assert "\n" not in str(mistake.value)
    files.remove(folder.path.resolve())
    performed.clear()
    assert timeless(run(beyond)) == timeless(results)
    assert performed == ["alibi-s0"]


def test_a_probe_is_learnt_with_the_seed_of_the_run_at_the_best_rate_of_its_arm(
    probed: Study, run: Conduct, tiny_recipe: MakeRecipe
):
    results, task, training = run(probed), Task.parse("induction"), Training(3)
    for arm, settings in (("base", ()), ("alibi", ALIBI["alibi"])):
        recipe = tiny_recipe(*settings)
        model = model_for(task, recipe, [], own_size=False)
        optimizers = [with_rate(recipe.optimizer, lr) for lr in (1e-4, 1e-2)]
        tried = [learn(model, each, task, TUNING_SEED, training) for each in optimizers]
        best = with_rate(recipe.optimizer, max(tried, key=rank).lr)
        for seed, value in values(results, arm, label_of(results)).items():
            assert value == learn(model, best, task, seed, training).accuracy["48 tokens"]
    assert results.metrics[-1].better == "higher"
    assert "chance 0.084, ceiling 1" in results.metrics[-1].title


def test_an_arm_that_is_its_base_at_the_size_of_a_probe_is_told(study: MakeStudy, run: Conduct):
    variants = {"wide": ("model.d_model=24",), **ALIBI}
    results = run(study(variants=variants, seeds=(0,), metrics=["bits_per_byte", PROBE]))
    (note,) = [note for note in results.notes if "size of a probe" in note]
    assert "wide is the same as its base" in note


def test_tuning_computes_nothing_but_what_decides(study: MakeStudy, run: Conduct, how: How):
    tune = {"lr": [1e-3, 1e-2], "extensions": 0}
    results = run(study(variants=ALIBI, seeds=(0,), tune=tune, metrics=["val_loss", BEYOND]))
    tried = [each for each in results.runs if each.role == "tuning"]
    assert [list(each.metrics) for each in tried] == [["val_loss"]] * 4
    folders = [how.studies / results.name / each.folder for each in tried]
    assert not any((folder / "measured").exists() for folder in folders)
    decided = run(study(name="other", variants=ALIBI, seeds=(0,), tune=tune, metrics=[BEYOND]))
    base, alibi = ([trial.results for trial in curve.trials] for curve in decided.tuning)
    assert base == [[None], [None]]
    assert all(found for (found,) in alibi)
    with pytest.raises(ValueError, match=r"tune: probe\(induction.* is the same at every learning"):
        study(variants=ALIBI, tune=tune, metrics=[PROBE])


def test_what_cannot_be_computed_is_refused_before_anything_is_run(
    study: MakeStudy, tiny_recipe: MakeRecipe, run: Conduct, how: How
):
    too_far = [{"type": "loss_beyond", "factor": 100}]
    with pytest.raises(ValueError, match=r"loss_beyond\(100\) reads 800 tokens in a row"):
        run(study(metrics=too_far))
    with pytest.raises(ValueError, match=r"loss_beyond\(100\) reads 800 tokens in a row"):
        measure_noise(tiny_recipe(), (0, 1), metrics_of(["loss_beyond,factor=100"]), how, print)
    assert not how.root.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("probe,task=mqarr", "no tasks variant named 'mqarr'; did you mean 'mqar'?"),
        ("probe", "task: Field required"),
        ("loss_beyond,factor=1", "factor: Input should be greater than or equal to 2"),
    ],
)
def test_a_metric_that_is_none_is_one_line(words: str, message: str):
    with pytest.raises(ValueError, match=r"^metrics\.0") as problem:
        metrics_of([words])
    assert message in str(problem.value)
    assert "\n" not in str(problem.value)


def test_noise_is_measured_of_computed_metrics_too(tiny_recipe: MakeRecipe, how: How):
    recipe = tiny_recipe("model.positions=alibi")
    floor, _ = measure_noise(recipe, (0, 1), metrics_of(["loss_beyond"]), how, lambda text: None)
    assert floor.metrics["loss_beyond(2)"].sd > 0


def test_a_signal_stops_computing_and_the_same_command_goes_on(
    probed: Study, run: Conduct, how: How, monkeypatch: pytest.MonkeyPatch
):
    whole = run(probed.but(name="whole"))
    files_of = [
        kept_in(folder_of(whole, how, arm, seed)) for arm in ("base", "alibi") for seed in (0, 1)
    ]
    for (file,) in files_of[1:]:
        file.unlink()
    compute = Probe.compute

    def interrupted(self: Probe, run: RunFolder, hear: Hear) -> float | None:
        monkeypatch.setattr(Probe, "compute", compute)
        signal.raise_signal(signal.SIGINT)
        return compute(self, run, hear)

    monkeypatch.setattr(Probe, "compute", interrupted)
    with pytest.raises(Stopped):
        run(probed.but(name="whole"))
    assert not files_of[1][0].exists()
    assert run(probed.but(name="whole")).runs == whole.runs


def test_a_plan_says_that_computing_is_not_in_its_time(beyond: Study, how: How, capsys):
    show_plan(beyond, how, lambda text: None)
    assert "what it takes to compute loss_beyond(4)" in capsys.readouterr().out


def test_a_probe_has_its_settings_in_its_name_but_its_margin():
    plain, few = metrics_of(["probe,task=mqar", "probe,task=mqar,steps=9,margin=0.1"])
    assert (plain.label, few.label) == ("probe(mqar)", "probe(mqar,steps=9)")
    pairs = Probe.parse({"task": {"type": "mqar", "pairs": [2, 4]}})
    assert pairs.label == "probe(mqar,task.pairs=[2,4])"
