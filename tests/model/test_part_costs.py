import pytest

from gptlab.model.accounting import cache_bytes, count_flops, count_parameters
from gptlab.model.part_costs import cost_per_part, decode_bytes
from gptlab.recipes import find_recipe


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["model.head=untied"],
        ["model.multi_token.depth=2"],
        ["model.residual=hyper_connections", "model.residual.dynamic=true"],
        ["model.mlp.type=mixture_of_experts", "model.mlp.n_experts=4"],
        ["model.attention=gated_delta", "model.attention.n_heads=4"],
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_the_parts_add_up_to_the_model(settings: list[str]):
    model = find_recipe("shakespeare").override(settings).resolved().model
    costs = cost_per_part(model)
    assert sum(cost.flops for cost in costs.values()) == pytest.approx(count_flops(model).training)
    assert costs["mlp"].flops > 0
    assert costs["head"].weights == 65 * 128


def test_a_token_needs_every_matrix_and_what_is_remembered():
    model = find_recipe("shakespeare").resolved().model
    parameters = count_parameters(model)
    position_table, gains = 64 * 128, 9 * 128
    matrices = parameters.total - position_table - gains  # the tied head is the token embedding
    remembered = cache_bytes(model, 4).full_context / 2
    assert decode_bytes(model, 32) == 4 * matrices + remembered
