"""How often studies of identical arms tell them apart as seeds are added until they do.

    python benchmarks/looks.py --studies 4000

Runs are simulated: what the runs of a seed share varies by 0.03, what they do not by 0.01; there
is no margin, so that nothing but a finding ends a study early. Each way to add seeds is tried as
it is, and with every look spending all of alpha. Beside that, what spending costs: the power of a
first look for what 5% would find four times of five.
"""

import argparse
from collections.abc import Callable
from unittest.mock import patch

import numpy as np

from gptlab.compare import verdict
from gptlab.compare.looks import Looks, share
from gptlab.compare.power import power_of, smallest_effect
from gptlab.compare.results import Comparison, Metric
from gptlab.compare.statistics import Arm
from gptlab.compare.verdict import compare

LOSS = Metric(name="bpb", title="bits per byte")  # no margin: nothing but a finding ends it
FIRST = 5  # seeds
WAYS: dict[str, tuple[Callable[[Comparison], int], int]] = {
    "about k more, up to 60": (lambda found: found.more_seeds or 1_000, 60),
    "one more, up to 20": (lambda found: 1, 20),
    "as many again, up to 80": (lambda found: found.n_base, 80),
}


def arms(rng: np.random.Generator, seeds: int) -> dict[str, Arm]:
    """Simulate a base, and a variant that does nothing."""
    shared = rng.normal(2.0, 0.03, size=seeds)
    runs = {name: shared + rng.normal(0.0, 0.01, size=seeds) for name in ("base", "variant")}
    return {name: dict(enumerate(values.tolist())) for name, values in runs.items()}


def is_told_apart(runs: dict[str, Arm], add: Callable[[Comparison], int], most: int) -> bool:
    """Judge the first seeds, and add further ones until there is a verdict."""
    looks, seeds = Looks(), FIRST
    while True:
        now = {name: {seed: arm[seed] for seed in range(seeds)} for name, arm in runs.items()}
        (found,) = compare(LOSS, "base", now, look=looks.take(LOSS.name, "", "base", now))
        if found.verdict != "not resolved":
            return found.verdict in ("better", "worse")
        if seeds == most:
            return False
        seeds = min(seeds + add(found), most)


def false_findings(add: Callable[[Comparison], int], most: int, studies: int) -> float:
    rng = np.random.default_rng(0)
    return float(np.mean([is_told_apart(arms(rng, most), add, most) for _ in range(studies)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=4_000)
    studies = parser.parse_args().studies
    for way, (add, most) in WAYS.items():
        spent = false_findings(add, most, studies)
        with patch.object(verdict, "share", lambda look: 1.0):
            unspent = false_findings(add, most, studies)
        print(f"{way:25} {spent:6.1%} false, without spending {unspent:6.1%}", flush=True)
    for seeds in (3, 5, 8, 12):
        effect, alpha = smallest_effect(seeds, 1.0), 0.05 * share(1)
        larger = smallest_effect(seeds, 1.0, alpha) / effect - 1
        power = power_of(seeds, effect, 1.0, alpha)
        print(f"{seeds:2} seeds: power {power:.1%} in place of 80%, or effects {larger:.1%} larger")


if __name__ == "__main__":
    main()
