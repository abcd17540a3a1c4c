"""Which of the learning rates of a probe is the best."""

from gptlab.probes.grid import rank
from gptlab.probes.learning import Trial


def trial(*ways: float) -> Trial:
    return Trial(1e-3, 0, curve=[(25 * look, way) for look, way in enumerate(ways, start=1)])


def test_who_solved_comes_before_who_never_did_and_earlier_before_later():
    never, late, early = trial(0.2, 0.89), trial(0.1, 0.95), trial(0.91, 0.8)
    low = trial(0.3, 0.4)
    assert sorted([early, late, never, low], key=rank) == [low, never, late, early]
