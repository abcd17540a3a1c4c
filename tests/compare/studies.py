"""What tests ask of a study's results."""

from collections.abc import Callable, Sequence
from typing import Any

from gptlab.compare.metrics import Metric
from gptlab.compare.reading import Measured
from gptlab.compare.results import Results
from gptlab.compare.study import Study
from gptlab.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
MakeStudy = Callable[..., Study]
Conduct = Callable[..., Results]
OF_TIME = {"seconds", "tokens_per_second", "timed_beside", "command"}


def timeless(thing: Any) -> Any:
    """Leave out of results what another run of the same study may measure anew."""
    if isinstance(thing, Results):
        return timeless(thing.model_dump(mode="json"))
    if isinstance(thing, dict):
        return {name: timeless(value) for name, value in thing.items() if name not in OF_TIME}
    return [timeless(each) for each in thing] if isinstance(thing, list) else thing


def metrics_of(words: Sequence[str]) -> tuple[Metric, ...]:
    """Read metrics as they are typed."""
    return Measured.parse({"seeds": 2, "metrics": words}).metrics


def values(results: Results, arm: str, metric: str = "bits_per_byte") -> dict[int, float | None]:
    """Give what was measured of an arm, by seed."""
    return {
        run.seed: run.metrics.get(metric)
        for run in results.runs
        if run.variant == arm and run.role == "report"
    }
