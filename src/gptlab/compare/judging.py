"""From what was measured to verdicts: the comparisons of a study's results."""

from collections.abc import Mapping, Sequence

from gptlab.compare.fairness import TIMES_ONLY
from gptlab.compare.looks import Look, Looks
from gptlab.compare.results import Comparison, Finding, Metric, NoiseFloor, Results
from gptlab.compare.statistics import Arm
from gptlab.compare.verdict import compare, with_margin

MOST_SHOWN = 3  # differences that a verdict names


def judged(results: Results, noise: Mapping[str, NoiseFloor], looks: Looks) -> Results:
    """Compare every arm with the base of its size, by every metric, and count it as a look.

    `noise`: the floor of every size that has one.
    """
    metrics: list[Metric] = []
    comparisons: list[Comparison] = []
    notes: list[str] = []
    for metric in results.metrics:
        at_sizes = []
        for scale in results.scales:
            arms, floor = arms_by_value(results, metric.name, scale), noise.get(scale)
            refused = _refused(results, metric, scale)
            look = looks.take(metric.name, scale, results.base, arms)
            notes += _left_out(look, results.confidence)
            at_sizes.append(with_margin(metric, arms[results.base], floor))
            comparisons += compare(
                at_sizes[-1], results.base, arms, refused, floor, results.confidence, scale, look
            )
        metrics.append(at_sizes[0] if len({each.margin for each in at_sizes}) == 1 else metric)
    comparisons = [_with_budget(results, each) for each in comparisons]
    update = {"metrics": metrics, "comparisons": comparisons, "noise": dict(noise)}
    update["notes"] = [*results.notes, *dict.fromkeys(notes)]
    return results.model_copy(update=update)


def _refused(results: Results, metric: Metric, scale: str) -> dict[str, str]:
    """Say of each arm that cannot be compared by a metric, why."""
    findings = [finding for finding in results.findings if finding.scale == scale]
    refused = _read_otherwise(findings) if metric.per_token else {}
    refused |= _timed_otherwise(findings) if metric.of_time else {}
    return refused | refusals(findings)


def _with_budget(results: Results, found: Comparison) -> Comparison:
    """Say in a verdict what of the budget was missed."""
    missed = [
        match.problem
        for match in results.budget.matches
        if (match.variant, match.scale) == (found.variant, found.scale) and match.problem
    ]
    return found.model_copy(update={"text": "; ".join([found.text, *missed])})


def _left_out(look: Look, confidence: float) -> list[str]:
    return [
        f"{name}: seed {', '.join(map(str, seeds))} was judged before and is left out; choosing "
        f"among seeds whose results are known is not covered by the {1 - confidence:.0%}"
        for name, seeds in look.left_out.items()
    ]


def arms_by_value(results: Results, metric: str, scale: str) -> dict[str, Arm]:
    """Give each arm's values by seed: None where a run has none, nothing where it is missing."""
    arms: dict[str, dict[int, float | None]] = {each.name: {} for each in results.variants}
    for run in results.runs:
        if run.role == "report" and run.scale == scale and run.state != "failed":
            arms[run.variant][run.seed] = run.metrics[metric]
    return dict(arms)


def _read_otherwise(findings: Sequence[Finding]) -> dict[str, str]:
    """Say of each arm with another tokenizer than the base why a loss per token tells nothing."""
    reason = "another tokenizer; use bits_per_byte"
    return {each.variant: reason for each in findings if each.what == "tokenizer_sha256"}


def _timed_otherwise(findings: Sequence[Finding]) -> dict[str, str]:
    """Say of each arm that ran with other threads than the base why its time tells nothing."""
    return {
        each.variant: f"{_other(each)}, which moves what is timed; use --jobs 1 for all of the runs"
        for each in findings
        if each.what in TIMES_ONLY
    }


def _other(finding: Finding) -> str:
    return f"{finding.what} is {finding.variant_value}, of the base {finding.base_value}"


def refusals(findings: Sequence[Finding]) -> dict[str, str]:
    """Say of each arm that cannot be compared by anything, why."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.severity == "refuses":
            reasons.setdefault(finding.variant, []).append(_other(finding))
    return {
        name: "; ".join(texts[:MOST_SHOWN])
        + (f"; and {len(texts) - MOST_SHOWN} more" if len(texts) > MOST_SHOWN else "")
        for name, texts in reasons.items()
    }
