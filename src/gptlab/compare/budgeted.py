"""What every arm was given the same of, and what its runs really took where that is time."""

from collections.abc import Mapping, Sequence

from gptlab.compare.arms import Arm
from gptlab.compare.budget import TIME_TOLERANCE, TOLERANCE
from gptlab.compare.results import Budget, Cost, Match
from gptlab.compare.study import Study

NOUNS = {
    "params": "parameters outside of embeddings and head",
    "flops": "training FLOPs",
    "tokens": "training tokens",
    "time": "seconds of training on this machine",
}


def budget_of(study: Study, arms: Sequence[Arm], costs: Sequence[Cost]) -> Budget:
    """Describe the budget; `costs` say what runs took."""
    took: Mapping[tuple[str, str], float | None] = {}
    if study.match == "time":
        took = {(cost.variant, cost.scale): cost.seconds for cost in costs}
    base = {arm.scale: took.get((arm.name, arm.scale)) for arm in arms if arm.reference}
    matches = [
        Match(
            variant=arm.name,
            scale=arm.scale,
            target=arm.matched.target,
            reached=arm.matched.reached,
            changed={path: value for path, _, value in arm.matched.changes},
            took=took.get((arm.name, arm.scale)),
            problem=_off(took.get((arm.name, arm.scale)), base[arm.scale]),
        )
        for arm in arms
        if arm.matched
    ]
    text = f"every arm has the same {NOUNS[study.match]}, within {TOLERANCE:.0%}"
    if study.match == "time":
        text += f" by a step measured beforehand; {_in_all(matches)}"
    return Budget(axis=study.match, tolerance=TOLERANCE, matches=matches, text=text)


def _off(took: float | None, base: float | None) -> str:
    """Say how far the runs of an arm are from those of the base; nothing if they are near."""
    if took is None or not base or abs(took / base - 1) <= TIME_TOLERANCE:
        return ""
    return f"its runs took {took:,.4g} s, the base's {base:,.4g} s ({took / base - 1:+.0%})"


def _in_all(matches: Sequence[Match]) -> str:
    if all(match.took is None for match in matches):
        return "no run has ended"
    off = [f"{match.variant} {match.scale}".rstrip() for match in matches if match.problem]
    if off:
        return f"{', '.join(off)} really took another time, by more than {TIME_TOLERANCE:.0%}"
    return f"the runs really took the same, within {TIME_TOLERANCE:.0%}"
