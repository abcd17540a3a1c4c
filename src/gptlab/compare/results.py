"""`results.json`: all that a study found, as plain data from which every number can be recomputed.

Numbers are finite or null. A metric that is null for a run that was `done` or `diverged` has no
value there, which counts as the worst (a loss that is not finite, a target that was never reached);
a run that is not listed, or `failed`, is missing: nothing is known of it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gptlab import files

FORMAT = 1
MAX_BYTES = 500_000_000
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Verdict = Literal["better", "worse", "no difference", "not resolved", "not comparable"]


class Plain(BaseModel):
    """A part of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(Plain):
    """What is compared. The first metric of a study is the one that it is decided by.

    `scale`: `ratio` compares logarithms, for times and throughput: its differences, intervals
    and margins are factors, variant / base, and its noise is that of the logarithm.
    `margin`: the largest difference that does not matter, null if there is no way to say, or if
    it is another one for every size: then comparisons have it.
    """

    name: str
    title: str  # `validation bits per byte`
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"
    scale: Literal["difference", "ratio"] = "difference"
    margin: Number | None = None
    margin_source: str = ""  # `declared`, `one standard deviation of the noise floor`
    per_token: bool = False  # of no meaning between two tokenizers
    of_time: bool = False  # of no meaning between two machines, or two numbers of threads
    lost_means: str = "diverged"  # why a run has no value; `never reached` for a target


class Variant(Plain):
    """An arm of the study; the base is one, without overrides."""

    name: str
    overrides: list[str]
    recipe: str  # YAML, as it was before a budget or tuning changed anything
    wiring: str  # as `gptlab show` draws it


class Match(Plain):
    """How one arm was brought to the budget.

    `target` and `reached` are amounts of the budget's axis; of time they are what was expected of
    a step measured beforehand, and `took` is the median of what its runs took.
    """

    variant: str
    scale: str = ""
    target: Number
    reached: Number
    changed: dict[str, Any] = {}  # setting: value solved for
    took: Number | None = None
    problem: str = ""  # what could not be matched, and how near it came


class Budget(Plain):
    """What every arm gets the same of; no axis: the same settings but for the variant's."""

    axis: Literal["params", "flops", "tokens", "time"] | None = None
    tolerance: Number = 0.01
    matches: list[Match] = []
    text: str = ""  # in words


class Trial(Plain):
    """One point of a tuning curve: the metric for each tuning seed, null where it diverged.

    `failed`: seeds that were tried and of which nothing is known; such a point is never chosen.
    """

    value: Number
    seeds: list[int]
    results: list[Number | None]
    failed: list[int] = []


class Tuning(Plain):
    """The curve of one arm over one setting, of runs with role `tuning`.

    `edge`: the best value is the first or last of the range even after extending it.
    """

    variant: str
    scale: str = ""
    setting: str  # `optimizer.lr`
    metric: str
    trials: list[Trial]  # in the order of their values
    chosen: Number
    extended: bool = False
    edge: bool = False


class Curve(Plain):
    """What a run reported on its way; lists of one length, null where nothing was measured."""

    steps: list[Count] = []
    tokens: list[Count] = []
    flops: list[Number] = []
    seconds: list[Number] = []
    train_loss: list[Number | None] = []
    val_loss: list[Number | None] = []


class Run(Plain):
    """One run. `command` repeats it; `folder` is relative to the study's."""

    variant: str
    scale: str = ""
    seed: int
    role: Literal["tuning", "report"]
    settings: dict[str, Any] = {}  # of a tuning run: what it tried
    folder: str
    identity: str
    state: Literal["done", "diverged", "failed"]
    problem: str = ""  # why it failed or diverged, and whether it was tried again
    command: str
    metrics: dict[str, Number | None] = {}
    curve: Curve = Curve()


class Cost(Plain):
    """What an arm costs, whatever it is worth; null is unknown. Times are medians over its runs."""

    variant: str
    scale: str = ""
    parameters: Count
    non_embedding: Count
    flops_per_token: Number  # training
    tokens: Count  # of a run
    tokens_per_second: Number | None = None
    peak_memory_bytes: Count | None = None  # an estimate: a step is played through, not measured
    kv_bytes_per_token: Count
    seconds: Number | None = None
    timed_beside: Count = 0  # runs that had but their share of the cores: times are not the arm's


class Comparison(Plain):
    """One variant against the base, by one metric: made by `verdict.py`, null where unknown.

    `difference` is variant - base (variant / base of a metric whose scale is `ratio`); `low` to
    `high` is its interval by itself, `family_low` to `family_high` the one that holds for all
    variants of this metric at once. `p_adjusted` is Holm's over the `family` variants. Both go by
    `alpha`, what the `look` may spend of 1 - confidence: see `looks.py`.
    `paired`: by seed; else the arms are independent. `lost`: runs without a value.
    """

    variant: str
    base: str
    metric: str
    scale: str = ""
    method: str  # `paired t`, `Welch's t`, `ranks`, `one seed`, `none`
    seeds: list[int]  # those that both have
    n_variant: Count
    n_base: Count
    lost_variant: Count = 0
    lost_base: Count = 0
    variant_value: Number | None = None  # mean; geometric for ratios, median where runs are lost
    base_value: Number | None = None
    difference: Number | None = None
    sd: Number | None = None  # of the paired differences, of logarithms for ratios
    confidence: Number = 0.95
    look: Count = 1  # number of the set of runs, in the order in which they were judged
    alpha: Number = 0.05
    low: Number | None = None
    high: Number | None = None
    family: Count = 1
    family_low: Number | None = None
    family_high: Number | None = None
    p: Number | None = None
    p_adjusted: Number | None = None
    noise_ratio: Number | None = None  # difference in standard deviations of the noise floor
    margin: Number | None = None
    smallest_effect: Number | None = None  # that would be found with a power of 80%
    more_seeds: Count | None = None  # for each arm
    verdict: Verdict
    text: str  # the verdict as a sentence


class Finding(Plain):
    """Something in which two arms differ, found by the guard; undeclared: not comparable."""

    variant: str
    scale: str = ""
    what: str  # `data.sha256`
    base_value: str
    variant_value: str
    declared: bool
    severity: Literal["refuses", "note"]


class NoiseOfMetric(Plain):
    """Standard deviation over seeds with its interval; of the logarithm for ratios."""

    mean: Number
    sd: Number
    n: Count
    confidence: Number = 0.95
    low: Number
    high: Number


class NoiseFloor(Plain):
    """How much the metrics of one recipe move by the seed alone."""

    format: int = FORMAT
    recipe: str
    identity: str  # of the recipe, but for its seed
    seeds: list[int]
    lost: list[int] = []  # seeds that diverged or failed: they are not in any of the numbers
    metrics: dict[str, NoiseOfMetric]


class Results(Plain):
    """A study's answer. Lists are in the order in which a reader wants them."""

    format: int = FORMAT
    name: str
    question: str = ""
    command: str
    base: str  # the name of a variant
    scales: list[str] = [""]  # sizes, smallest first; one without a name if there is one only
    seeds: list[int]
    tuning_seeds: list[int] = []
    confidence: Number = 0.95
    metrics: list[Metric]
    variants: list[Variant]  # the base first
    budget: Budget = Budget()
    tuning: list[Tuning] = []
    runs: list[Run]
    costs: list[Cost]
    comparisons: list[Comparison]
    findings: list[Finding] = []
    noise: dict[str, NoiseFloor] = {}  # by size, of those that were measured
    environment: dict[str, Any] = {}
    notes: list[str] = []  # what a reader must know besides

    def save(self, file: Path) -> None:
        files.replace(file, self.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote. Raises ValueError naming the file and what is wrong in it."""
        return files.read_parsed(file, MAX_BYTES, cls._parse)

    @classmethod
    def _parse(cls, content: bytes) -> Self:
        try:
            results = cls.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = "".join(f"{step}: " for step in problem["loc"])
            raise ValueError(f"{place}{problem['msg']}") from None
        if results.format != FORMAT:
            raise ValueError(f"format {results.format}, this gptlab reads {FORMAT}")
        return results
