"""Contestants, in this process: they compute what they say, in the sizes that they are given."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from gptlab.bench.contestants import gptlab as ours
from gptlab.bench.contestants import reference
from gptlab.bench.contestants._scoring import score
from gptlab.bench.encoding import make_text
from gptlab.bench.preparing import job_of, recipe_of, sizes, write_text
from gptlab.bench.worker import work
from gptlab.evaluate.validation import validation_loss
from gptlab.tokenizer.bpe import BPE
from gptlab.train.recipe import Recipe

SMALL = (
    "model.context_length=16",
    "model.d_model=16",
    "model.n_layers=2",
    "model.attention.n_heads=2",
    "train.batch_tokens=128",
    "train.precision=float32",
    "optimizer.lr=0.01",
)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    text = "".join(f"line {i % 7}: what light is it?\n" for i in range(300))
    (tmp_path / "input.txt").write_text(text, encoding="utf-8")
    return recipe_of("shakespeare", [f"data.path={tmp_path / 'input.txt'}", *SMALL])


@pytest.fixture
def job(recipe: Recipe, tmp_path: Path) -> dict[str, Any]:
    return sizes(recipe) | write_text(recipe, tmp_path) | {"folder": str(tmp_path)}


def told(job: dict[str, Any], *calls: int) -> list[dict[str, Any]]:
    """What a contestant answers when it is asked for so many calls, again and again."""
    commands = [json.dumps({"seconds": 0, "least": n}) for n in calls]
    replies: list[dict[str, Any]] = []
    work(job, io.StringIO("\n".join(commands) + "\n"), replies.append)
    return replies


@pytest.mark.parametrize("contestant", ["gptlab", "reference"])
def test_training_learns_and_counts_its_tokens(contestant: str, job, recipe):
    ready, first, last = told(
        job | job_of(recipe) | {"contestant": contestant, "work": "train"}, 50, 50
    )
    assert ready["ready"]["amount"] == 128
    assert ready["ready"]["parameters"] == sum(p.numel() for p in recipe_model(recipe, job))
    assert (first["calls"], last["calls"]) == (50, 50)
    assert last["losses"][1] == pytest.approx(math.log(job["vocab_size"]), abs=0.3)
    assert last["losses"][100] < 0.7 * last["losses"][1]


def recipe_model(recipe: Recipe, job: dict[str, Any]):
    return recipe.with_vocab_size(job["vocab_size"]).build().parameters()


def test_a_run_that_is_paced_has_no_end(recipe, job):
    short = recipe.override(["train.steps=3"])
    *_, last = told(job | job_of(short) | {"contestant": "gptlab", "work": "train"}, 8)
    assert last["calls"] == 8


def test_a_race_ends_with_the_run_and_is_scored_as_gptlab_scores(recipe, job):
    race = {"started": 0.0, "every": 4}
    job |= job_of(recipe.override(["train.steps=6"])) | {"race": race, "window": 16, "steps": 6}
    for contestant in ("gptlab", "reference"):
        replies = told(job | {"contestant": contestant, "work": "train"})
        assert [step for step, _, _ in replies[-1]["curve"]] == [4, 6]
        assert replies[-1]["whole"] > 0


def test_a_race_on_other_text_is_refused(recipe, job, tmp_path: Path):
    (tmp_path / "val.bin").write_bytes(b"\0\0" * 40)
    race = {"started": 0.0, "every": 4}
    job |= job_of(recipe) | {"race": race, "window": 16, "contestant": "gptlab", "work": "train"}
    assert "other validation tokens" in told(job)[-1]["failed"]


def test_the_shared_evaluator_agrees_with_our_own(recipe, job):
    model = recipe.with_vocab_size(job["vocab_size"]).build()
    corpus = recipe.data.tokenize(recipe.data.prepare(recipe.tokenizer)[0])
    n = (len(corpus.val) - 1) // 16 * 16
    expected = validation_loss(model, corpus.val[: n + 1])
    found = score(model, lambda x_BT, y_BT: model(x_BT), job | {"window": 16})
    assert found == pytest.approx(expected, abs=1e-6)


def test_materialised_logits_give_the_same_loss_and_gradient(recipe, job):
    model = recipe.with_vocab_size(job["vocab_size"]).build()
    ids_BT = torch.randint(job["vocab_size"], (3, 17), generator=torch.Generator().manual_seed(0))
    results = []
    for change in (lambda head: None, ours.materialise):
        change(model.head)
        model.zero_grad()
        loss = model.losses(ids_BT[:, :-1], ids_BT[:, 1:])["loss"]
        loss.backward()
        assert model.embedding.weight.grad is not None
        results.append((loss.item(), model.embedding.weight.grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1])


def test_the_reference_is_gpt2(job):
    """Its logits are causal, tied to the embedding, and its loss that of a plain formula."""
    torch.manual_seed(0)
    model = reference.PlainGPT2(job).eval()
    ids_BT = torch.randint(job["vocab_size"], (2, 16))
    changed_BT = ids_BT.clone()
    changed_BT[:, 9:] = 0
    logits, other = model(ids_BT), model(changed_BT)
    torch.testing.assert_close(logits[:, :9], other[:, :9])
    assert not torch.allclose(logits[:, 9:], other[:, 9:])
    assert cross_entropy(logits.flatten(0, 1), ids_BT.flatten()) < 1.2 * math.log(
        model.tokens.num_embeddings
    )


def test_generation_writes_as_many_tokens_as_were_asked_for(recipe, job):
    job |= job_of(recipe.override(["tokenizer=byte", "data=python"]))
    text = {"prompt": 3, "tokens": 6, "rows": 2, "vocab_size": 257}
    ready, done = told(job | text | {"contestant": "gptlab", "work": "generate"}, 2)
    assert ready["ready"]["amount"] == 12
    assert done["calls"] == 2


def test_who_encodes_gives_the_same_ids(tmp_path: Path):
    documents = make_text(60_000)
    BPE(vocab_size=400).train(documents).save(tmp_path / "tok")
    (tmp_path / "documents").write_text("\0".join(documents), encoding="utf-8")
    job = {"tokenizer": str(tmp_path / "tok"), "documents": str(tmp_path / "documents")}
    facts = []
    for contestant in ("gptlab", "tokenizers", "tokenizers_fast"):
        job |= {"contestant": contestant, "work": "tokenize", "megabytes": 0.06}
        facts.append(told(job, 1)[0]["ready"])
    assert facts[0] == facts[1] == facts[2]
    assert facts[0]["tokens"] > 20_000


def test_made_up_words_differ_from_copy_to_copy():
    documents = make_text(300_000)
    assert len(set(documents)) == len(documents)
    assert make_text(300_000) == documents


def test_the_calibrator_tells_seconds():
    ready, first = told({"contestant": "_calibrator", "work": "calibrate"}, 1)
    assert set(first["losses"]) == set(ready["ready"]["kinds"])
    assert all(seconds > 0 for seconds in first["losses"].values())
