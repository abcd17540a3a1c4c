"""A recipe's parts at the size of a probe."""

import pytest

from gptlab.model.accounting import build_on_meta, count_parameters
from gptlab.probes.sizing import model_for, small
from gptlab.probes.tasks import Task
from gptlab.recipes import all_recipes, find_recipe

MQAR = Task.parse("mqar")


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_every_recipe_can_be_small(name: str):
    recipe = find_recipe(name)
    model = model_for(MQAR, recipe, [], own_size=False)
    build_on_meta(model)
    assert (model.d_model, model.vocab_size, model.context_length) == (64, 64, 24)
    assert count_parameters(model).total < 300_000
    for slot in ("positions", "norm", "attention", "mlp", "residual", "head", "initialization"):
        assert getattr(model, slot).variant == getattr(recipe.model, slot).variant


def test_layers_that_take_turns_are_one_of_each_kind():
    of = small(find_recipe("gemma3").model, 64).attention.of  # pyright: ignore
    assert [each.window is None for each in of] == [False, True]


def test_a_single_layer_stays_single():
    model = find_recipe("shakespeare").model
    assert [small(model.but(n_layers=n), 24).n_layers for n in (1, 2, 6)] == [1, 2, 2]


def test_windows_keep_their_share_and_heads_their_groups():
    recipe = find_recipe("mistral")
    wide = recipe.model.attention
    share = 64 * wide.window / recipe.model.context_length  # pyright: ignore
    model = small(recipe.model, 64)
    assert model.attention.window == max(2, round(share))  # pyright: ignore
    assert (model.attention.n_heads, model.attention.n_kv_heads) == (2, 1)  # pyright: ignore


def test_numbers_of_the_user_are_kept_and_parts_become_small():
    settings = [
        "model.attention=grouped_query",
        "model.attention.window=5",
        "model.mlp.type=swiglu",
        "--model.n_layers=3",
    ]
    model = model_for(MQAR, find_recipe("shakespeare"), settings, own_size=False)
    assert model.attention.window == 5  # pyright: ignore
    assert model.attention.n_heads == 2  # pyright: ignore
    assert model.n_layers == 3
    assert (model.mlp.variant, model.mlp.d_ff) == ("swiglu", 8)  # pyright: ignore


def test_with_its_own_size_nothing_but_the_tasks_sizes_changes():
    recipe = find_recipe("shakespeare")
    model = model_for(MQAR, recipe, [], own_size=True)
    assert model == recipe.model.but(vocab_size=64, context_length=24)


def test_sizes_of_the_task_are_refused():
    with pytest.raises(ValueError, match=r"decided by the task; .* mqar.length"):
        model_for(MQAR, find_recipe("shakespeare"), ["model.context_length=9"], own_size=False)
