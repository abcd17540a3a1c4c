"""Training on a prepared set: the same run as on the same tokens in memory, and as strict."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from gptlab.data.batching.epoch import Windows
from gptlab.data.preparation.options import Options
from gptlab.data.preparation.run import prepare
from gptlab.data.prepared import PreparedSet
from gptlab.data.shards import Shards
from gptlab.evaluate.validation import validation_loss
from gptlab.tokenizer.bpe import BPE
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, quick_disk: None) -> Make:
    """Prepare documents with a byte-pair encoder."""
    draw = random.Random(0)
    words = ["one", "two", "three", "four", "five"]
    texts = [" ".join(draw.choices(words, k=30)) for _ in range(60)]
    BPE(vocab_size=270).train(texts).save(tmp_path / "tok")

    def make(name: str, texts: list[str] = texts, **options: object) -> Path:
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(json.dumps({"text": text}) for text in texts), "utf-8")
        given = {"tokenizer": str(tmp_path / "tok"), "val_documents": 9, "workers": 1}
        given |= {"source": str(file), "out": tmp_path / name, **options}
        return prepare(Options(**given), MagicMock()).path  # pyright: ignore[reportArgumentType]

    return make


def quiet(text: str) -> None:
    pass


def test_shards_train_as_one_array_does(
    make: Make, tiny_recipe: Callable[..., Recipe], tmp_path: Path
):
    runs = []
    for name, size in (("whole", 10**6), ("cut", 500)):
        path = make(name, shard_size=size)
        recipe = tiny_recipe(f"data.path={path}", f"name={name}")
        runs.append(start_run(recipe, tmp_path / "runs", say=quiet).session)
    whole, cut = runs
    assert isinstance(whole.corpus.texts[0].tokens, np.memmap)
    assert isinstance(cut.corpus.texts[0].tokens, Shards)
    assert cut.recipe.tokenizer.variant == "bpe"
    assert whole.loss == cut.loss
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        assert a.equal(b)
    lines = [run.run.metrics()[0][-1]["bits_per_byte"] for run in runs]
    assert lines[0] == lines[1]


def test_bits_per_byte_count_the_bytes_of_the_text(
    make: Make, tiny_recipe: Callable[..., Recipe], tmp_path: Path
):
    session = start_run(
        tiny_recipe(f"data.path={make('set')}"), tmp_path / "runs", say=quiet
    ).session
    corpus, encoder = session.corpus, session.encoder
    ids = corpus.val[:].tolist()
    texts = encoder.decode(ids).encode()
    assert corpus.val_bytes == len(texts) - len(encoder.bytes_of(ids[0]))
    assert ids.count(encoder.end_of_text) == 9
    nats = validation_loss(session.model, corpus.val)
    assert nats == validation_loss(session.model, np.array(ids))


def test_documents_are_found(make: Make):
    opened = PreparedSet.open(make("set", shard_size=77))
    tokens, starts = opened.tokens("train"), opened.documents("train")["start"].astype(int)
    ends = np.flatnonzero(tokens[:] == opened.encoder.end_of_text) + 1
    np.testing.assert_array_equal(starts, [0, *ends[:-1]])
    assert ends[-1] == len(tokens)


def test_batches_of_shards_are_those_of_an_array():
    ids = np.random.default_rng(0).integers(0, 999, 5000).astype(np.uint16)
    shards = Shards([ids[i : i + 700] for i in range(0, 5000, 700)])
    for rows in (np.arange(7), np.arange(300, 340)):
        one, many = (Windows(tokens, 16, seed=3).take(rows) for tokens in (ids, shards))
        np.testing.assert_array_equal(one.x_NT, many.x_NT)
        np.testing.assert_array_equal(one.y_NT, many.y_NT)


@pytest.mark.parametrize("batching", ["packed", "stream", "epoch"])
def test_it_resumes_exactly(
    batching: str, make: Make, tiny_recipe: Callable[..., Recipe], tmp_path: Path
):
    recipe = tiny_recipe(f"data.path={make('set', shard_size=500)}", f"batching={batching}")
    whole = start_run(recipe, tmp_path / "whole", say=quiet).session
    half = recipe.override(["train.steps=12", "train.max_seconds=1e-9"])
    begun = start_run(half, tmp_path / "half", say=quiet)
    moved = shutil.move(tmp_path / "set", tmp_path / "moved")
    changes = ["train.max_seconds=null", f"data.path={moved}"]
    resumed = resume_run(begun.run.path, changes, say=quiet).session
    assert resumed.step == whole.step == 12
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert a.equal(b)


def test_another_set_or_another_tokenizer_is_refused(
    make: Make, tiny_recipe: Callable[..., Recipe], tmp_path: Path
):
    recipe = tiny_recipe(f"data.path={make('set')}", "train.max_seconds=1e-9")
    run = start_run(recipe, tmp_path / "runs", say=quiet).run
    other = make("other", [f"another text {i}" for i in range(60)])
    with pytest.raises(ValueError, match=r"the text of .* has changed"):
        resume_run(run.path, [f"data.path={other}"], say=quiet)
    by_bytes = make("bytes", tokenizer="byte")
    with pytest.raises(ValueError, match=r"was prepared with the tokenizer .*, this one is"):
        resume_run(run.path, [f"data.path={by_bytes}"], say=quiet)
    with pytest.raises(ValueError, match="was prepared with the tokenizer"):
        start_run(
            recipe.override([f"data.path={by_bytes}", f"train.init_from={run.path}", "name=new"]),
            tmp_path / "runs",
            say=quiet,
        )
    (tmp_path / "set" / "train-00000.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"data\.path: .*train-00000\.bin has 5 bytes"):
        resume_run(run.path, say=quiet)


def test_the_model_that_is_shown_has_the_sets_vocabulary(
    make: Make, tiny_recipe: Callable[..., Recipe]
):
    assert (
        tiny_recipe(f"data.path={make('set', tokenizer='byte')}").resolved().model.vocab_size == 257
    )


def test_too_small_a_set_is_refused(make: Make, tiny_recipe: Callable[..., Recipe], tmp_path: Path):
    recipe = tiny_recipe(f"data.path={make('set', ['a', 'b c'], val_documents=1)}")
    with pytest.raises(ValueError, match=r"too short: .*--val-fraction of gptlab prepare"):
        start_run(recipe, tmp_path / "runs", say=quiet)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("batching", ["epoch", "packed", "stream"])
def test_an_id_that_there_is_not_is_named(
    split: str,
    batching: str,
    make: Make,
    tiny_recipe: Callable[..., Recipe],
    tmp_path: Path,
):
    path = make("set")
    file = path / f"{split}-00000.bin"
    ids = np.fromfile(file, "<u2")
    ids[::20] ^= 2**14
    ids.tofile(file)
    recipe = tiny_recipe(f"data.path={path}", f"batching={batching}")
    with pytest.raises(
        ValueError,
        match=r"data\.path=.*: holds id 16,[0-9]+ of 270: damaged; see gptlab data verify",
    ):
        start_run(recipe, tmp_path / "runs", say=quiet)
