"""What the comparisons of one metric share."""

import math
from dataclasses import dataclass

from gptlab.compare.results import Metric, NoiseOfMetric
from gptlab.compare.statistics import Arm

FLOOR = "one standard deviation of the noise floor"


@dataclass(frozen=True)
class Family:
    """A metric, the base, and how much may go wrong; in logarithms where ratios are compared.

    `tests`: how many variants are tested. `alpha`: how often one of them may be judged falsely, at
    this look; `following`: at the next one.
    """

    metric: Metric
    base: Arm
    tests: int
    alpha: float
    following: float
    noise: NoiseOfMetric | None

    @property
    def margin(self) -> float | None:
        margin = self.metric.margin
        return math.log(margin) if margin and self.metric.scale == "ratio" else margin

    @property
    def noise_is_margin(self) -> bool:
        """Whether nobody has said what matters, and the noise stands for it."""
        return self.metric.margin_source == FLOOR

    def holds(self, interval: tuple[float, float]) -> bool:
        """Tell whether a whole interval is within the margin."""
        low, high = interval
        return bool(self.margin) and -self.margin <= low and high <= self.margin

    @property
    def level(self) -> float:
        """The share of error that one of the intervals may have, if all are to hold at once."""
        return self.alpha / self.tests

    @property
    def following_level(self) -> float:
        """That share when further seeds are there."""
        return self.following / self.tests
