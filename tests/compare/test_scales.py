"""The same question at several sizes."""

import pytest
from studies import Conduct, MakeRecipe, MakeStudy

from gptlab.compare.conduct import How
from gptlab.compare.metrics.bits_per_byte import BitsPerByte
from gptlab.compare.noise_runs import measure_noise
from gptlab.compare.planning import plan
from gptlab.compare.report.contents import facts
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


def test_every_size_has_the_noise_and_the_margin_of_its_own(
    study: MakeStudy, run: Conduct, how: How
):
    scales = {"narrow": ("model.d_model=24",), "broad": ("model.d_model=32",)}
    asked = study(scales=scales, variants={"rope": ("model.positions=rotary",)})
    broad = asked.base.override([*asked.settings, "model.d_model=32"])
    floor, _ = measure_noise(broad, (0, 1, 2), (BitsPerByte(),), how, lambda text: None)
    results = run(asked)
    assert results.noise == {"broad": floor}
    narrow, wide = results.comparisons
    assert narrow.base_value is not None
    assert narrow.margin == pytest.approx(0.005 * narrow.base_value)
    assert narrow.noise_ratio is None
    assert wide.margin == floor.metrics["bits_per_byte"].sd
    assert wide.noise_ratio == pytest.approx((wide.difference or 0) / wide.margin)
    assert results.metrics[0].margin is None
    assert facts(results)["matters"] == f"narrow {narrow.margin:.3g}, broad {wide.margin:.3g}"
    assert facts(results)["noise floor"].startswith("broad sd ")
    assert [x is None for x in plan(asked, how, lambda text: None).resolves.values()] == [
        True,
        False,
    ]
