"""The rows of every task: what is asked, its chance and its ceiling, against plain readers."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from gptlab.config import variant_names
from gptlab.data.batching import IGNORED, Batch
from gptlab.probes.draw import Draw
from gptlab.probes.tasks import Task

Reader = Callable[[list[int], int], int | None]


def pairs_of(row: list[int], at: int) -> int | None:
    """The token after an earlier one of the same name."""
    before = [i for i in range(at) if row[i] == row[at]]
    return row[before[-1] + 1] if before else None


def next_of_the_first_part(row: list[int], at: int) -> int | None:
    colon = row.index(1)
    return [token for token in row[:colon] if token][at - colon]


def most_after_the_same(row: list[int], at: int) -> int | None:
    """The token that came most often after the last few; `row[0]` says how many; else any."""
    order, symbols = row[0] - 3, row[1 : at + 1]
    before = [
        symbols[i]
        for i in range(order, len(symbols))
        if symbols[i - order : i] == symbols[len(symbols) - order :]
    ]
    return Counter(before).most_common(1)[0][0] if before else 0


def what_follows_the_mark(row: list[int], at: int) -> int | None:
    return row[row.index(0) + 1]


READERS: dict[str, Reader] = {
    "mqar": pairs_of,
    "induction": pairs_of,
    "length": pairs_of,
    "selective_copy": next_of_the_first_part,
    "ngrams": most_after_the_same,
    "needle": what_follows_the_mark,
}


def accuracy(batch: Batch, reader: Reader) -> float:
    right = [
        reader(row.tolist(), int(at)) == answers[at]
        for row, answers in zip(batch.x_NT, batch.y_NT, strict=True)
        for at in np.flatnonzero(answers != IGNORED)
    ]
    assert right
    return float(np.mean(right))


@pytest.mark.parametrize("name", variant_names(Task))
def test_rows_are_a_function_of_the_seed(name: str):
    task = Task.parse(name)
    first, again, other = (task.training_rows(7, Draw(seed, name)) for seed in (1, 1, 2))
    assert np.array_equal(first.x_NT, again.x_NT)
    assert np.array_equal(first.y_NT, again.y_NT)
    assert not np.array_equal(first.x_NT, other.x_NT)
    assert first.x_NT.shape[0] == 7


@pytest.mark.parametrize("name", variant_names(Task))
def test_tokens_fit_the_vocabulary_and_every_condition_asks(name: str):
    task = Task.parse(name)
    for condition in task.conditions():
        batch = task.rows(50, Draw(0, name), condition.what)
        asked = batch.y_NT != IGNORED
        assert asked.any(axis=1).all()
        assert batch.x_NT.shape[1] <= task.context_length
        for tokens in (batch.x_NT, batch.y_NT[asked]):
            assert 0 <= tokens.min() <= tokens.max() < task.vocab_size


@pytest.mark.parametrize("name", variant_names(Task))
def test_the_reader_who_knows_how_reaches_the_ceiling(name: str):
    task = Task.parse(name)
    for condition in task.conditions():
        batch = task.asked(condition.name, condition.what)
        assert accuracy(batch, READERS[name]) == pytest.approx(condition.ceiling, abs=0.005)


def test_who_knows_the_values_but_not_whose_has_the_chance_of_mqar():
    task, draw = Task.parse("mqar"), np.random.default_rng(0)
    for condition in task.conditions():
        P = condition.what

        def guess(row: list[int], at: int, P: int = P) -> int:
            start = at // (3 * P) * 3 * P
            return row[start + 1 + 2 * int(draw.integers(P))]

        batch = task.rows(400, Draw(0, "mqar"), P)
        assert accuracy(batch, guess) == pytest.approx(condition.chance, abs=0.02)


@pytest.mark.parametrize("name", ["induction", "length"])
def test_who_knows_the_tokens_but_not_their_order_has_the_chance(name: str):
    task, draw = Task.parse(name), np.random.default_rng(0)
    for condition in task.conditions():
        batch = task.rows(400, Draw(0, name), condition.what)

        def guess(row: list[int], at: int) -> int:
            return int(draw.choice(np.unique(row)))

        assert accuracy(batch, guess) == pytest.approx(condition.chance, abs=0.01)


def test_who_knows_what_is_left_but_not_its_order_has_the_chance_of_selective_copy():
    task, draw = Task.parse("selective_copy"), np.random.default_rng(0)
    for condition in task.conditions():

        def guess(row: list[int], at: int) -> int:
            colon = row.index(1)
            left = {token for token in row[:colon] if token} - set(row[colon + 1 : at + 1])
            return int(draw.choice(list(left)))

        batch = task.rows(600, Draw(0, "selective_copy"), condition.what)
        assert accuracy(batch, guess) == pytest.approx(condition.chance, abs=0.02)


def test_who_counts_tokens_has_the_chance_of_ngrams_in_the_rows_that_are_asked():
    task, draw = Task.parse("ngrams"), np.random.default_rng(0)
    for condition in task.conditions():
        batch = task.asked(condition.name, condition.what)

        def most_frequent(row: list[int], at: int) -> int:
            counts = {symbol: row[1 : at + 1].count(symbol) for symbol in range(4)}
            most = max(counts.values())
            return int(draw.choice([symbol for symbol in counts if counts[symbol] == most]))

        assert accuracy(batch, most_frequent) == pytest.approx(condition.chance, abs=0.005)
        assert condition.ceiling > condition.chance + 0.15


def test_rows_of_ngrams_have_the_order_that_they_name():
    """Who knows what stood before the last token, too, gains by it in rows of order 2 alone."""
    task = Task.parse("ngrams")
    for order in (1, 2):
        batch = task.rows(300, Draw(0, "ngrams"), order)
        assert (batch.x_NT[:, 0] == 3 + order).all()
        assert np.array_equal(batch.x_NT[:, 1:], batch.y_NT[:, :-1])
        found = {}
        for known in (1, 2):
            batch.x_NT[:, 0] = 3 + known
            found[known] = accuracy(batch, most_after_the_same)
        assert (found[2] > found[1] + 0.1) == (order == 2)


def test_a_needle_lies_where_its_condition_says_and_nowhere_else():
    task = Task.parse("needle")
    backs = []
    for condition in task.conditions():
        batch = task.rows(100, Draw(0, "needle"), condition.what)
        is_value = (batch.x_NT >= 1) & (batch.x_NT <= 8)
        (place,) = {tuple(row) for row in np.argwhere(is_value)[:, 1:]}
        assert (is_value.sum(1) == 1).all()
        assert (batch.x_NT[:, [place[0] - 1, -1]] == 0).all()
        assert ((batch.x_NT == 0).sum(1) == 2).all()
        backs.append(63 - int(place[0]))
        assert condition.name.endswith(f", {backs[-1]} back")
    assert backs == [1, 17, 32, 47, 62]
    depths = {int(np.flatnonzero(row == 0)[0]) for row in task.training_rows(2000, Draw(0)).x_NT}
    assert depths == set(range(62))


def test_a_gap_is_the_least_distance_of_a_copy():
    task = Task.parse("selective_copy")
    for gap in (0, 16, 32):
        batch = task.rows(200, Draw(0, "selective_copy"), gap)
        distances = [
            at - int(np.flatnonzero(row == answer)[0])
            for row, answers in zip(batch.x_NT, batch.y_NT, strict=True)
            for at, answer in enumerate(answers)
            if answer != IGNORED
        ]
        assert gap < min(distances) <= gap + 8


def test_no_fixed_distance_gives_the_answers_of_induction():
    task = Task.parse("induction")
    batch = task.rows(200, Draw(0, "induction"), 48)
    for distance in range(1, 40):

        def look_back(row: list[int], at: int, distance: int = distance) -> int | None:
            return row[at + 1 - distance] if at + 1 >= distance else None

        assert accuracy(batch, look_back) < 0.2


def test_keys_and_values_of_a_row_of_mqar_are_its_own():
    task = Task.parse({"type": "mqar", "pairs": [2], "length": 24})
    batch = task.rows(50, Draw(0, "mqar"), 2)
    for row in batch.x_NT.reshape(50, 4, 6):
        keys, values = row[:, [0, 2]].ravel(), row[:, [1, 3]].ravel()
        assert len(set(keys)) == len(set(values)) == 8
        assert max(keys) < 32 <= min(values)
        assert [sorted(block[4:]) for block in row] == [sorted(block[[0, 2]]) for block in row]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"type": "mqar", "pairs": [5]}, "must be a multiple of 15"),
        ({"type": "mqar", "tokens": 8}, "at least two thirds"),
        ({"type": "induction", "longest": 48}, "must be from 2 to 47"),
        ({"type": "selective_copy", "items": 13}, "is more than 12"),
        ({"type": "length", "longest": 20}, "must be from 2 to 16"),
        ({"type": "length", "times": [2, 4]}, "must have 1, the length of training"),
        ({"type": "ngrams", "orders": [3]}, "have 64 contexts, and half of ngrams.length=64"),
        ({"type": "needle", "depths": [101]}, "less than or equal to 100"),
    ],
)
def test_settings_that_leave_no_room_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Task.parse(settings).conditions()


def test_ngrams_too_short_to_learn_from_are_refused():
    with pytest.raises(ValueError, match=r"ngrams\.length=4 is too short: .* 6\d%"):
        Task.parse({"type": "ngrams", "symbols": 2, "length": 4, "orders": [1]}).conditions()
