"""What a run says of its speed: tokens per second, and how much of the machine that is."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ends import quiet

from gptlab import machine
from gptlab.model.accounting import count_flops
from gptlab.runs.folder import RunFolder
from gptlab.train.recipe import Recipe
from gptlab.train.run import start_run

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "float32"), ("bf16", "bfloat16")])
def test_the_pace_is_measured_against_products_in_the_format_that_runs(
    precision: str,
    dtype: str,
    tiny_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    speeds = {"float32": 1e8, "bfloat16": 2e8}
    monkeypatch.setattr(machine, "product_speed", lambda device, dtype, n: speeds[dtype])
    recipe = tiny_recipe(f"train.precision={precision}", "name=mine", "train.steps=40")
    run = start_run(recipe, tmp_path, say=quiet).run
    lines, _ = RunFolder.open(run.path).metrics()
    model = Recipe.parse(run.config_tree()).model
    for line in lines:
        achieved = line["tokens_per_second"] * count_flops(model).training
        expected = pytest.approx(achieved / speeds[dtype], rel=1e-3, abs=1e-4)
        assert line["model_flops_utilization"] == expected
    said = re.findall(r"([\d,]+) tokens/s · (\d+)% of peak", capfd.readouterr().err)
    assert said
    for speed, percent in said:
        achieved = float(speed.replace(",", "")) * count_flops(model).training
        assert float(percent) == pytest.approx(100 * achieved / speeds[dtype], abs=0.6)
