"""Every recipe is complete: it builds, survives YAML, says how it is run, and trains when small."""

import inspect
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import gptlab
from gptlab.model.accounting import build_on_meta, count_flops, count_parameters
from gptlab.recipes import all_recipes, find_recipe, open_recipe
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

NAMES = sorted(all_recipes())


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_how_it_is_run(name: str):
    assert find_recipe(name).name == name
    document = inspect.cleandoc(all_recipes()[name].__doc__ or "")
    assert len(document.splitlines()[0]) < 100
    assert "gptlab train" in document
    assert name == "quickstart" or f"gptlab train {name}" in document


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_yaml(name: str, tmp_path: Path):
    recipe = find_recipe(name)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    (tmp_path / "mine.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert open_recipe(str(tmp_path / "mine.yaml")) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_together(name: str):
    recipe = find_recipe(name)
    recipe.check()
    assert recipe.batch_size() % recipe.micro_batch_size() == 0
    model = build_on_meta(recipe.resolved().model)
    tokens = torch.zeros(1, recipe.model.context_length, dtype=torch.long, device="meta")
    V = recipe.resolved().model.vocab_size
    assert model(tokens).shape == (1, recipe.model.context_length, V)


@pytest.mark.parametrize("name", NAMES)
def test_the_counts_of_a_recipe_are_those_of_the_model_that_is_built(name: str):
    """Parameters one by one, and products with weights by torch's own counter."""
    model = find_recipe(name).resolved().model
    model = model.but(n_layers=min(model.n_layers, 8))  # counting DeepSeek-V3's 45,000 takes long
    gpt, T = build_on_meta(model), 16
    assert count_parameters(model).total == sum(p.numel() for p in gpt.parameters())
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        gpt(torch.zeros(1, T, dtype=torch.long, device="meta"))
    by_operation = counter.get_flop_counts()["Global"]
    products = by_operation.pop(torch.ops.aten.mm, 0) + by_operation.pop(torch.ops.aten.addmm, 0)
    assert products == pytest.approx(count_flops(model, T).products * T, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2", 124_439_808),
        ("gpt2_medium", 354_823_168),
        ("gpt2_large", 774_030_080),
        ("gpt2_xl", 1_557_611_200),
        ("shakespeare", 804_096),
        ("shakespeare_speedrun", 804_160),
        ("baby", 10_745_088),
        ("lil", 38_859_264),
        ("llama3", 8_030_261_248),
        ("mistral", 7_241_732_096),
        ("qwen3", 596_049_920),
        ("gemma2", 2_614_341_888),
        ("gemma3", 999_885_952),
        ("smollm3", 3_075_098_624),
        ("olmo2", 1_484_916_736),
        ("granite", 2_533_531_648),
        ("cohere2", 8_028_033_024),
        ("mixtral", 46_702_792_704),
        ("gpt_oss", 20_914_757_184),
        ("deepseek_v3", 671_026_404_352),
        ("ngpt", 468_189_184 + 302_336),  # the matrices of the paper's 468.2 million, and scales
    ],
)
def test_the_known_sizes(name: str, parameters: int):
    assert count_parameters(find_recipe(name).resolved().model).total == parameters


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_nano")])
def test_a_nano_recipe_is_small(name: str):
    assert 0.5e6 < count_parameters(find_recipe(name).resolved().model).total < 4e6


@pytest.mark.parametrize("name", ["norm", "transformer_pp"])
def test_variants_of_gpt2_have_its_size(name: str):
    sizes = [
        count_parameters(find_recipe(each).model).non_embedding
        for each in ("gpt2", "transformer_pp")
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_ngpt_and_what_it_is_measured_by_differ_in_what_makes_it_ngpt():
    ngpt, plain = find_recipe("ngpt_nano"), find_recipe("transformer_pp_nano")
    sizes = [count_parameters(recipe.resolved().model).total for recipe in (ngpt, plain)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    same = ("data", "tokenizer", "train", "seed")
    assert [getattr(ngpt, name) for name in same] == [getattr(plain, name) for name in same]
    assert ngpt.model.positions == plain.model.positions
    assert (ngpt.optimizer.weight_decay, ngpt.schedule.warmup) == (0, 0)


def test_the_window_of_norm_binds():
    model = find_recipe("norm").model
    assert model.attention.model_dump()["window"] < model.context_length


@pytest.mark.parametrize("name", [name for name in NAMES if f"{name}_nano" not in NAMES])
def test_a_small_form_trains(name: str, tmp_path: Path):
    """Of published families it is the nano recipe that trains, as it is but for the context."""
    recipe = find_recipe(name)
    smaller = []
    if count_parameters(recipe.resolved().model).total > 4e6:
        n_heads = recipe.model.attention.model_dump()["n_heads"]
        smaller = [f"model.d_model={4 * n_heads}", "model.n_layers=2"]
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question.\n" * 60, encoding="utf-8")
    small = recipe.override(
        [
            f"data.path={text}",
            "data.val_fraction=0.1",
            *smaller,
            "model.context_length=16",
            "model.vocab_size=null",
            *(["tokenizer.vocab_size=270"] if recipe.tokenizer.variant == "bpe" else []),
            "train.batch_tokens=64",
            "train.steps=8",
            "train.sample_tokens=4",
            "train.precision=float32",
            "train.tensorboard=false",
            "schedule=constant",
        ]
    )
    outcome = start_run(small, tmp_path, say=lambda text: None)
    losses = [line["train_loss"] for line in outcome.run.metrics()[0]]
    assert outcome.reason == "done"
    assert losses[-1] < losses[0]


def test_recipes_are_attributes():
    assert gptlab.recipes.gpt2() == find_recipe("gpt2")
    with pytest.raises(AttributeError, match="gpt3"):
        _ = gptlab.recipes.gpt3
    assert isinstance(gptlab.recipes.shakespeare().build(), torch.nn.Module)
