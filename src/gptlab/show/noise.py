"""`gptlab noise`: how far a recipe's numbers move by the seed alone."""

from collections.abc import Sequence

from gptlab.compare.conduct import How
from gptlab.compare.metrics import Metric
from gptlab.compare.noise_runs import measure_noise
from gptlab.show._print import print_table
from gptlab.train.recipe import Recipe
from gptlab.train.session import Say


def show_noise(
    recipe: Recipe, seeds: Sequence[int], metrics: Sequence[Metric], how: How, say: Say
) -> None:
    """Measure and print a noise floor."""
    floor, file = measure_noise(recipe, seeds, metrics, how, say)
    print_table(
        f"Noise of {floor.recipe} over {len(floor.seeds)} seeds",
        ["metric", "runs", "mean", "standard deviation", "95% interval of it"],
        [
            [
                name,
                str(found.n),
                f"{found.mean:.5g}",
                f"{found.sd:.3g}",
                f"{found.low:.3g} to {found.high:.3g}",
            ]
            for name, found in floor.metrics.items()
        ],
    )
    say(f"kept in {file}: later verdicts on this recipe use it")
