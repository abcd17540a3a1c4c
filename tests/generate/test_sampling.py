import math

import pytest
import torch

from gptlab.generate import sampling
from gptlab.generate.sampling import Sampler, best

LOGITS = torch.tensor([0.3, 2.0, -1.0, 1.4, 0.9, -3.0, 1.9, 0.0])


def exact_probabilities(temperature=1.0, top_k=None, top_p=None, min_p=None) -> list[float]:
    """The same rules, token by token."""
    scores = [logit / temperature for logit in LOGITS.tolist()]
    best_first = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]
    weights = {i: math.exp(scores[i]) for i in best_first}
    total = sum(weights.values())
    kept, mass = [], 0.0
    for i in best_first:
        if top_p is not None and mass >= top_p:
            break
        kept.append(i)
        mass += weights[i] / total
    largest = weights[best_first[0]]
    kept = [i for i in kept if weights[i] >= (min_p or 0) * largest]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(scores))]


@pytest.mark.parametrize(
    ("settings", "n_possible"),
    [
        ({}, 8),
        ({"temperature": 2.5}, 8),
        ({"temperature": 0.5}, 8),
        ({"top_k": 3}, 3),
        ({"top_k": 100}, 8),
        ({"top_p": 0.7}, 3),
        ({"top_p": 1.0}, 8),
        ({"min_p": 0.3}, 4),
        ({"min_p": 0.0}, 8),
        ({"temperature": 2.0, "top_k": 6, "top_p": 0.8, "min_p": 0.55}, 4),
    ],
)
def test_draws_with_the_exact_probabilities(settings, n_possible):
    n = 40_000
    expected = exact_probabilities(**settings)
    assert sum(p > 0 for p in expected) == n_possible
    ids = Sampler(**settings, seed=5)(LOGITS.expand(n, -1))
    counts = torch.bincount(ids, minlength=len(expected)).tolist()
    assert all(count == 0 for count, p in zip(counts, expected, strict=True) if p == 0)
    chi_square = sum(
        (count - n * p) ** 2 / (n * p) for count, p in zip(counts, expected, strict=True) if p
    )
    assert chi_square < 29.9  # 7 degrees of freedom exceed it once in 10,000 times


def test_each_filter_works_on_what_the_one_before_it_left():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(2_000, -1)
    # of the best two, the first has 4/7 of the probability, above 0.5; without top_k it has 0.4
    assert set(Sampler(top_k=2, top_p=0.5, seed=1)(logits).tolist()) == {0}
    assert set(Sampler(top_p=0.5, seed=1)(logits).tolist()) == {0, 1}
    # the temperature comes first: squared, the second is 0.56 times the first, not 0.75
    assert set(Sampler(min_p=0.7, seed=1)(logits).tolist()) == {0, 1}
    assert set(Sampler(temperature=0.5, min_p=0.7, seed=1)(logits).tolist()) == {0}


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"temperature": 0, "top_k": 5, "top_p": 0.9, "min_p": 0.1},
        {"temperature": 1e-308},
        {"top_k": 1},
        {"top_p": 1e-9},
        {"min_p": 1.0},
    ],
)
def test_settings_that_leave_one_token_are_greedy(settings):
    logits = torch.randn(50, 100, generator=torch.Generator().manual_seed(1))
    assert Sampler(**settings)(logits).equal(logits.argmax(-1))


def test_a_seed_decides_and_another_decides_otherwise():
    logits = torch.zeros(20, 50)

    def draw(seed):
        sampler = Sampler(seed=seed)
        return [sampler(logits).tolist() for _ in range(3)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)
    first, second, _ = draw(7)
    assert first != second


def test_the_smallest_uniform_number_finds_nothing_that_was_left_out(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(shape, dtype=torch.double))
    assert Sampler(min_p=0.5)(torch.tensor([[-9.0, 0.0, 1.0, 1.2]])).tolist() == [2]


def test_bfloat16_scores_are_sampled():
    logits = LOGITS.expand(20_000, -1).to(torch.bfloat16)
    p = exact_probabilities()[1]
    share = (Sampler(seed=2)(logits) == 1).double().mean().item()
    assert share == pytest.approx(p, abs=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_scores_that_are_not_finite_are_refused(bad, temperature):
    logits = torch.zeros(2, 5)
    logits[1, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        Sampler(temperature)(logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "--temperature=-0.1 must be"),
        ({"temperature": math.nan}, "--temperature=nan must be"),
        ({"temperature": math.inf}, "--temperature=inf must be"),
        ({"top_k": 0}, "--top-k=0 must be at least 1"),
        ({"top_p": 0.0}, "--top-p=0.0 must be above 0 and at most 1"),
        ({"top_p": 1.5}, "--top-p=1.5 must be above 0 and at most 1"),
        ({"top_p": math.nan}, "--top-p=nan must be"),
        ({"min_p": -0.5}, "--min-p=-0.5 must be from 0 to 1"),
        ({"min_p": 1.01}, "--min-p=1.01 must be from 0 to 1"),
        ({"min_p": math.nan}, "--min-p=nan must be"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**settings)


@pytest.mark.parametrize(("N", "V", "C"), [(8, 65, 50), (40, 257, 50), (9, 7, 7), (8, 3, 1)])
@pytest.mark.parametrize("several", [0, 10**6])
def test_the_best_are_the_best_however_they_are_found(monkeypatch, N, V, C, several):
    monkeypatch.setattr(sampling, "SEVERAL_ROWS", several)
    logits_NV = torch.randn(N, V).mul(10)
    logits_NV[0, :3] = torch.tensor([-0.0, float("-inf"), 1e-42])
    values_NC, ids_NC = best(logits_NV, C)
    assert values_NC.equal(logits_NV.sort(descending=True).values[:, :C])
    assert values_NC.equal(logits_NV.gather(1, ids_NC))
    assert all(len(set(ids)) == C for ids in ids_NC.tolist())


def test_of_equals_the_first_are_best():
    logits_NV = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0]]).expand(8, -1)
    assert best(logits_NV, 2)[1].tolist() == [[1, 2]] * 8
