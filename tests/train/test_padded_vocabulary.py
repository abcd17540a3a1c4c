"""A vocabulary filled up to a multiple: ids stay what they are, and the loss is not flattered."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ends import quiet

from gptlab.evaluate.validation import validation_loss
from gptlab.generate import load
from gptlab.train.recipe import Recipe
from gptlab.train.run import resume_run, start_run

Make = Callable[..., Recipe]


@pytest.mark.parametrize("multiple", [1, 7, 64])
def test_the_model_has_more_rows_and_the_tokenizer_no_more_ids(tiny_recipe: Make, multiple: int):
    recipe = tiny_recipe("tokenizer=byte", f"tokenizer.pad_to_multiple_of={multiple}")
    assert recipe.resolved().model.vocab_size == -(-257 // multiple) * multiple
    encoder, _ = recipe.data.prepare(recipe.tokenizer)
    assert encoder.vocab_size == 257
    assert recipe.with_vocab_size(300).model.vocab_size == -(-300 // multiple) * multiple
    assert recipe.override(["model.vocab_size=257"]).with_vocab_size(257).model.vocab_size == 257


def test_it_trains_resumes_and_writes_what_the_tokenizer_knows(
    tiny_recipe: Make, tmp_path: Path, quick_disk: None
):
    recipe = tiny_recipe("tokenizer=byte", "tokenizer.pad_to_multiple_of=512", "train.steps=4")
    run = start_run(recipe, tmp_path, say=quiet).run.path
    resume_run(run, ["train.steps=6"], say=quiet)
    model = load(run, device="cpu")
    assert model.model.embedding.num_embeddings == 512
    weight = model.model.embedding.weight
    with torch.no_grad():  # one half of the added ids gets the highest scores of all
        weight[257:384], weight[384:] = 100 * weight[97], -100 * weight[97]
    text = model.generate("a", max_tokens=20, temperature=0)
    assert isinstance(text, str)
    assert len(text.encode("utf-8", "surrogateescape")) >= 20


def test_the_loss_counts_added_ids_as_tokens_that_never_come(
    tiny_recipe: Make, tmp_path: Path, quick_disk: None
):
    """It is the loss among the real ids, and what is lost to the added ones: never less."""
    settings = ("tokenizer=byte", "tokenizer.pad_to_multiple_of=512", "train.steps=60")
    recipe = tiny_recipe(*settings, "optimizer.lr=0.01")
    _, corpus = recipe.data.prepare(recipe.tokenizer)
    at_first = recipe.build()
    trained = load(start_run(recipe, tmp_path, say=quiet).run.path, device="cpu").model
    lost = []
    for model in (at_first, trained):
        tokens = corpus.val[: model.context_length + 1].astype(np.int64)
        with torch.no_grad():
            logits_TV = model(torch.from_numpy(tokens[None, :-1]))[0]
        targets_T = torch.from_numpy(tokens[1:])
        among_real = torch.nn.functional.cross_entropy(logits_TV[:, :257], targets_T).item()
        added_T = logits_TV.softmax(-1)[:, 257:].sum(-1)
        lost.append(-(1 - added_T).log().mean().item())
        loss = validation_loss(model, tokens)
        assert loss == pytest.approx(among_real + lost[-1], rel=1e-5)
    assert lost[0] == pytest.approx(np.log(512 / 257), rel=0.05)
    assert lost[1] < 0.05 * lost[0]
