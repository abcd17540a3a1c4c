"""A batch too large for memory is said to be, with how large it may be (before and after)."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ends import quiet
from faults import after_call, raising

from gptlab import machine
from gptlab.kernels import causal, cross_entropy
from gptlab.model.accounting import TRAINING_BYTES, count_parameters
from gptlab.train import room, run
from gptlab.train.recipe import Recipe
from gptlab.train.rehearsal import rehearse
from gptlab.train.room import check_room, predict, rows_that_fit
from gptlab.train.run import start_run

MakeRecipe = Callable[..., Recipe]

pytestmark = pytest.mark.usefixtures("quick_disk")


def large(tiny_recipe: MakeRecipe, *settings: str) -> Recipe:
    return tiny_recipe("name=mine", "train.batch_tokens=512", *settings).resolved()


@pytest.mark.parametrize("rows", [1, 5, 40])
def test_as_many_rows_fit_as_are_predicted_to(rows: int, tiny_recipe: MakeRecipe):
    recipe = large(tiny_recipe)
    memory = predict(recipe, rows, False).peak
    assert rows_that_fit(recipe, False, memory - 1) == rows - 1
    assert rows_that_fit(recipe, False, memory + 1) == rows


def test_many_rows_are_not_played_through(tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch):
    """That would take minutes; what many rows take follows from fewer."""
    recipe, played = large(tiny_recipe), list[int]()
    enough = predict(recipe, 40, False).peak

    def note(recipe: Recipe, rows: int, bf16: bool) -> object:
        played.append(rows)
        return predict(recipe, rows, bf16)

    monkeypatch.setattr(room, "predict", note)
    monkeypatch.setattr(room, "PLAYED_TOKENS", 8 * 16)
    monkeypatch.setattr(machine, "total_memory", lambda: enough)
    with pytest.raises(ValueError, match=r"a step with 64 rows .*; at most (39|40|41) fit: "):
        check_room(recipe, "float32")
    assert set(played) == {8, 16}
    assert len(played) <= 6  # of 64 rows, of those that fit, and of none twice


@pytest.mark.parametrize(("n_heads", "d_head"), [(8, 8), (2, 8)])  # more or less than is kept
def test_what_is_kept_of_many_rows_is_not_what_is_kept_of_few(
    n_heads: int, d_head: int, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    heads = [f"model.attention.n_heads={n_heads}", f"model.attention.d_head={d_head}"]
    recipe = tiny_recipe("model.context_length=256", "train.batch_tokens=32768", *heads).resolved()
    monkeypatch.setattr(causal, "KEPT_SCORES", 12 * 8 * 256 * 256)  # 12 rows, or 48
    played = {n: predict(recipe, n, True).peak for n in (16, 32, 64, 128)}
    monkeypatch.setattr(room, "PLAYED_TOKENS", 16 * 256)
    peaks = room.Peaks(recipe, True)
    assert {n: peaks[n] for n in played} == pytest.approx(played, rel=0.03)
    fit = rows_that_fit(recipe, True, played[64])
    assert 62 <= fit <= 66


def test_where_rows_take_no_memory_fewer_of_them_do_not_help(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    def flat(recipe: Recipe, rows: int, bf16: bool) -> object:
        return SimpleNamespace(peak=1000)

    monkeypatch.setattr(room, "predict", flat)
    monkeypatch.setattr(room, "PLAYED_TOKENS", 8 * 16)
    assert rows_that_fit(large(tiny_recipe), False, 999) == 0
    assert rows_that_fit(large(tiny_recipe), False, 1000) == 64


def test_what_exceeds_the_memory_is_refused_before_anything_is_written(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = large(tiny_recipe)
    enough = predict(recipe, 10, False).peak
    monkeypatch.setattr(machine, "total_memory", lambda: enough)
    said = r"a step with 64 rows of 8 tokens at once takes about .* at most 10 fit: "
    with pytest.raises(ValueError, match=rf"{said}try train\.micro_batch_tokens=80$"):
        start_run(recipe, tmp_path, say=quiet)
    assert list(tmp_path.iterdir()) == []
    assert start_run(large(tiny_recipe, "train.micro_batch_tokens=80"), tmp_path, say=quiet)


def test_what_is_not_free_now_is_warned_of(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = large(tiny_recipe)
    free = predict(recipe, 3, False).peak
    monkeypatch.setattr(machine, "available_memory", lambda: free)
    said: list[str] = []
    assert start_run(recipe, tmp_path, say=said.append).reason == "done"
    (warning,) = [line for line in said if "free now" in line]
    assert "at most 3 fit: try train.micro_batch_tokens=24" in warning


def test_if_not_even_a_row_fits_the_model_is_too_large(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    recipe = large(tiny_recipe)
    monkeypatch.setattr(machine, "total_memory", lambda: predict(recipe, 1, False).peak - 1)
    with pytest.raises(ValueError, match=r"not even one row fits: try a smaller model\.context_le"):
        check_room(recipe, "float32")


def test_where_there_is_plenty_of_room_no_step_is_played_through(
    tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "predict", pytest.fail)
    assert check_room(large(tiny_recipe), "float32") is None


def test_a_model_larger_than_the_gpu_is_refused_before_anything_is_written(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its weights would be the first that is too much, outside of any step."""
    recipe = large(tiny_recipe)
    state = TRAINING_BYTES * count_parameters(recipe.model).total
    monkeypatch.setattr(room, "memory_of", lambda device: state - 1)
    with pytest.raises(ValueError, match=r"optimizer take .* GB there are; make the model smaller"):
        start_run(recipe, tmp_path, say=quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_is_refused_likewise(tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch):
    """`show --profile` takes real steps; the system would kill it, and perhaps others."""
    recipe = large(tiny_recipe)
    enough = predict(recipe, 10, False).peak
    monkeypatch.setattr(machine, "total_memory", lambda: enough)
    with pytest.raises(ValueError, match=r"with 64 rows .* at most 10 fit: try train\.micro_batch"):
        rehearse(recipe, quiet)
    state = TRAINING_BYTES * count_parameters(recipe.model).total
    monkeypatch.setattr(machine, "total_memory", lambda: state - 1)
    with pytest.raises(ValueError, match="make the model smaller"):
        rehearse(recipe, quiet)


@pytest.mark.parametrize(("fit", "tokens"), [(30, 240), (64, 256), (0, 8)])
def test_after_a_failure_what_is_predicted_to_fit_is_proposed(
    fit: int,
    tokens: int,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(run, "rows_that_fit", lambda recipe, bf16, memory: fit)
    with (
        after_call(cross_entropy, "logit_losses", 1, raising(MemoryError())),
        pytest.raises(MemoryError, match=rf"try train\.micro_batch_tokens={tokens},"),
    ):
        start_run(large(tiny_recipe), tmp_path, say=quiet)
