"""Verdicts: what may be said of each variant against the base.

    no difference larger than M the interval that holds for all variants at once lies within ±M
    better, worse               else, and Holm's adjusted p is at most the look's alpha
    not resolved                neither; about k more seeds would tell
    not comparable              the arms differ in what was not declared: not tested, not counted

An M that only the noise floor gives is no word on what matters: there, better and worse come first.

All variants of one metric at one size are one family: of variants that do nothing, however many
there are, one study in twenty at most says `better` or `worse`, however often it is judged again
with further seeds (looks.py).
"""

import math
from collections.abc import Mapping

from gptlab.compare.family import FLOOR, Family
from gptlab.compare.looks import ONLY, Look, share
from gptlab.compare.needed import more_seeds
from gptlab.compare.noise import pair_sd
from gptlab.compare.power import smallest_effect
from gptlab.compare.results import Comparison, Metric, NoiseFloor, Verdict
from gptlab.compare.sentences import in_words
from gptlab.compare.statistics import Arm, Estimate, estimate, holm

RELATIVE_MARGIN = 0.005  # of the base's value, where neither the study nor a noise floor says more


def compare(
    metric: Metric,
    base: str,
    arms: Mapping[str, Arm],
    refused: Mapping[str, str] | None = None,
    noise: NoiseFloor | None = None,
    confidence: float = 0.95,
    scale: str = "",
    look: Look = ONLY,
) -> list[Comparison]:
    """Compare every other arm with the base by one metric; `refused` says why one cannot be.

    Arms are values by seed: None where a run ended without one, no entry where it is missing.
    """
    arms = {
        name: _logarithms(arm) if metric.scale == "ratio" else arm for name, arm in arms.items()
    }
    refused = refused or {}
    estimates = {
        name: estimate(arms[base], arm, metric.better, is_tested=name not in refused)
        for name, arm in arms.items()
        if name != base
    }
    p_values = {name: found.p for name, found in estimates.items() if found.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    floor = noise.metrics.get(metric.name) if noise else None
    alpha, following = (
        (1 - confidence) * share(number) for number in (look.number, look.following)
    )
    tests = max(len(adjusted), 1)
    family = Family(metric, arms[base], tests, alpha, following, floor)
    comparisons = []
    for name, found in estimates.items():
        facts = _facts(family, arms[name], found, adjusted.get(name), confidence)
        facts |= {"variant": name, "base": base, "scale": scale, "confidence": confidence}
        facts |= {"look": look.number, "alpha": alpha}
        facts["verdict"] = "not comparable" if name in refused else facts["verdict"]
        text = in_words(metric, Comparison(**facts, text=""), refused.get(name, ""))
        comparisons.append(Comparison(**facts, text=text))
    return comparisons


def with_margin(metric: Metric, base: Arm, noise: NoiseFloor | None) -> Metric:
    """Say how large a difference matters, if the study does not: from the noise floor, or 0.5%."""
    values = [abs(x) for x in base.values() if x is not None]
    if metric.margin is not None:
        margin, source = metric.margin, metric.margin_source or "declared"
    elif noise and metric.name in noise.metrics:
        sd, source = noise.metrics[metric.name].sd, FLOOR
        margin = math.exp(sd) if metric.scale == "ratio" else sd
    elif metric.scale == "ratio":
        margin, source = 1 + RELATIVE_MARGIN, f"{RELATIVE_MARGIN:.1%}"
    elif values:
        margin, source = (
            RELATIVE_MARGIN * sum(values) / len(values),
            f"{RELATIVE_MARGIN:.1%} of the base",
        )
    else:
        return metric
    return metric.model_copy(update={"margin": margin, "margin_source": source})


def _facts(
    family: Family, variant: Arm, found: Estimate, adjusted: float | None, confidence: float
) -> dict:
    """Collect a comparison's numbers, ratios as factors."""
    base, outward = family.base, _factor if family.metric.scale == "ratio" else _same
    sd = pair_sd(found.sd, found.n - 1, family.noise)
    own, wide = found.interval(confidence), found.interval(1 - family.level)
    lost = [sum(x is None for x in arm.values()) for arm in (variant, base)]
    verdict = _decide(family, found, adjusted, wide, lost[0] - lost[1])
    is_open = verdict == "not resolved"
    finds = smallest_effect(found.n, sd, family.level) if sd and found.error else None
    if finds and family.margin and not family.noise_is_margin:
        finds = max(finds, family.margin)
    low, high = own or (None, None)
    family_low, family_high = wide or (None, None)
    noise = family.noise.sd if family.noise else 0.0
    return {
        "metric": family.metric.name,
        "method": found.method,
        "seeds": sorted(base.keys() & variant.keys()),
        "n_variant": len(variant),
        "n_base": len(base),
        "lost_variant": lost[0],
        "lost_base": lost[1],
        "variant_value": outward(found.variant_value),
        "base_value": outward(found.base_value),
        "difference": outward(found.difference),
        "sd": found.sd,
        "low": outward(low),
        "high": outward(high),
        "family": family.tests,
        "family_low": outward(family_low),
        "family_high": outward(family_high),
        "p": found.p,
        "p_adjusted": adjusted,
        "noise_ratio": found.difference / noise if noise and found.difference is not None else None,
        "margin": family.metric.margin,
        "smallest_effect": outward(finds),
        "more_seeds": more_seeds(family, variant, found, sd) if is_open else None,
        "verdict": verdict,
    }


def _decide(
    family: Family,
    found: Estimate,
    adjusted: float | None,
    wide: tuple[float, float] | None,
    more_lost: int,
) -> Verdict:
    """Decide; an arm that usually ends better but more often not at all is neither."""
    is_sure = adjusted is not None and adjusted <= family.alpha
    if wide and family.holds(wide) and not (is_sure and family.noise_is_margin):
        return "no difference"
    if is_sure:
        is_contradicted = more_lost > 0 if found.improved else more_lost < 0
        return "not resolved" if is_contradicted else "better" if found.improved else "worse"
    return "not resolved"


def _logarithms(arm: Arm) -> Arm:
    return {seed: None if x is None else math.log(x) for seed, x in arm.items()}


def _factor(x: float | None) -> float | None:
    return None if x is None else math.exp(min(x, 700.0))  # of what would not fit a number


def _same(x: float | None) -> float | None:
    return x
