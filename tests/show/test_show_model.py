import json
import re

import pytest

from gptlab.config import variant_names
from gptlab.model.accounting import count_flops, count_parameters
from gptlab.parts.residual import Residual
from gptlab.recipes import find_recipe
from gptlab.show.model import as_dict, picture, show
from gptlab.train.recipe import Recipe

TINY = [
    *("model.d_model=24", "model.n_layers=2", "model.context_length=32", "train.batch_tokens=128"),
    *("model.attention.n_heads=4", "model.attention.n_kv_heads=2", "tokenizer=byte"),
    "model.attention.qk_norm=null",
]


def recipe(*settings: str) -> Recipe:
    return find_recipe("quickstart").override([*TINY, *settings])


def test_the_printed_config_is_complete_and_loads_again(capsys: pytest.CaptureFixture[str]):
    show(recipe())
    config = capsys.readouterr().out.split("\n\n")[0]
    assert Recipe.from_yaml(config) == recipe().resolved()
    assert "vocab_size: 257" in config


def test_all_numbers_are_printed_in_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "30")
    show(recipe())
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "…" not in out
    facts = as_dict(recipe())
    numbers = [
        *facts["parameters"]["per_part"].values(),
        facts["flops_per_token"]["training"],
        *facts["cache_bytes"]["float32"].values(),
        facts["training_memory_bytes"]["peak"],
        facts["run"]["training_flops"],
    ]
    for number in numbers:
        assert re.search(rf"\b{number:,.0f}\b", out)
    assert facts["training_memory_bytes"]["assumes"] in out
    assert not re.search(r" \n", out)


def test_mixtures_tell_what_a_token_uses(capsys: pytest.CaptureFixture[str]):
    show(recipe())
    assert "active" not in capsys.readouterr().out
    mixture = recipe("model.mlp=mixture_of_experts")
    show(mixture)
    active = as_dict(mixture)["parameters"]["active"]
    assert re.search(rf"active, on a token +{active:,} ", capsys.readouterr().out)


def test_json_is_one_document_with_the_same_content(capsys: pytest.CaptureFixture[str]):
    show(recipe(), json=True)
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(json.dumps(as_dict(recipe())))
    model = recipe().resolved().model
    assert document["parameters"]["total"] == count_parameters(model).total
    assert document["flops_per_token"]["training"] == count_flops(model).training
    assert document["cache_bytes"]["bf16"]["per_token"] == 2 * 2 * 2 * 6 * 2
    assert document["config"]["model"]["vocab_size"] == 257
    assert document["run"]["tokens"] == 128 * recipe().total_steps()


def test_the_memory_is_that_of_the_recipes_own_step():
    def memory(*settings: str) -> dict[str, int]:
        return as_dict(recipe("train.precision=float32", *settings))["training_memory_bytes"]

    whole, split = memory(), memory("train.micro_batch_tokens=32")
    assert split["activations"] < 0.3 * whole["activations"]
    fused = "model.positions=alibi"  # a bias keeps bf16 on the kernel that holds no scores
    assert memory("train.precision=bf16", fused)["activations"] < 0.9 * memory(fused)["activations"]
    assert whole["optimizer"] < memory("optimizer=adamw")["optimizer"]
    assert memory("batching=packed")["activations"] > whole["activations"]
    assert memory("batching=stream") == whole


@pytest.mark.parametrize("residual", variant_names(Residual))
def test_the_picture_shows_the_block_as_it_is_wired(residual: str):
    model = recipe(f"model.residual={residual}").resolved().model
    lines = picture(model)
    block = model.residual.draw("rms_norm", ["grouped_query", "relu_squared"])
    drawn = [line.partition("│    ")[2] for line in lines]
    start = drawn.index(block[0])
    assert drawn[start : start + len(block)] == block
    assert lines[0] == "tokens"
    assert "257 x 24" in lines[1]
    assert lines[-1].startswith("logits, 257")
    assert ("  │ rms_norm" in lines) == (residual not in ("post_norm", "normalized"))


def test_the_picture_shows_the_pattern_of_alternating_attention():
    of = "[{type: grouped_query, window: 5, n_heads: 4}, {type: grouped_query, n_heads: 6}]"
    lines = picture(recipe(f"model.attention={{type: alternating, of: {of}}}").resolved().model)
    pattern = "alternating(of=[grouped_query(n_heads=4, window=5), grouped_query(n_heads=6)])"
    assert f"attention: {pattern}" in "\n".join(lines)


def test_what_would_take_minutes_is_not_played_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptlab.show.model.MOST_TENSORS", 20)
    show(recipe("model.n_layers=9"))
    assert "Memory of a training step: not estimated" in capsys.readouterr().out


def test_a_batch_that_does_not_fit_is_refused_before_anything_is_printed(
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(ValueError, match=r"train\.batch_tokens=100"):
        show(recipe("train.batch_tokens=100"))
    assert capsys.readouterr().out == ""
