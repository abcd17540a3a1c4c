"""The same question at several sizes."""

from studies import Conduct, MakeRecipe, MakeStudy

from gptlab.compare.scales import SIZES, settings_of


def test_a_size_keeps_how_heads_are_shared(tiny_recipe: MakeRecipe):
    base = tiny_recipe("model.d_model=32", "model.attention.n_heads=4", "model.mlp.d_ff=96")
    grouped = base.override(["model.attention.n_kv_heads=2"])
    for size, (width, n_layers) in SIZES.items():
        model = grouped.override(settings_of(grouped, size)).model
        assert (model.d_model, model.n_layers) == (width, n_layers)
        tree = model.model_dump()
        assert tree["attention"]["n_heads"] == width // 8
        assert tree["attention"]["n_kv_heads"] == width // 16
        assert tree["mlp"]["d_ff"] == 3 * width
    assert not any("n_kv_heads" in each for each in settings_of(base, "nano"))


def test_every_arm_runs_and_is_judged_at_every_size(study: MakeStudy, run: Conduct):
    scales = {"narrow": ("model.d_model=24",), "broad": ("model.d_model=32",)}
    results = run(study(scales=scales, match="params", tune={"lr": (1e-4, 1e-3), "extensions": 0}))
    assert results.scales == ["narrow", "broad"]
    arms = [(arm, scale) for scale in scales for arm in ("base", "rope", "swiglu")]
    assert [(cost.variant, cost.scale) for cost in results.costs] == arms
    assert [(each.variant, each.scale) for each in results.tuning] == arms
    assert [each.name for each in results.variants] == ["base", "rope", "swiglu"]
    compared = [(each.variant, each.scale) for each in results.comparisons]
    assert compared == [arm for arm in arms if arm[0] != "base"]
    sizes = {cost.scale: cost.non_embedding for cost in results.costs if cost.variant == "base"}
    assert sizes["narrow"] < sizes["broad"]
    reported = [each for each in results.runs if each.role == "report"]
    assert len({each.identity for each in reported}) == len(reported) == 12
