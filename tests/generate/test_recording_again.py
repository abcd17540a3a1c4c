"""A step whose memory has grown is recorded once more, and what has not changed stays."""

import pytest
import torch
from torch import Tensor

from gptlab.generate import products, reading, recording
from gptlab.generate.recording import Recording, record


class Growing:
    """Remembers a product of what is newest, reads all that it remembers, and keeps a sum."""

    def __init__(self) -> None:
        self.weight_33 = torch.arange(9.0).view(3, 3)
        self.newest_13, self.sum_13 = torch.ones(1, 3), torch.zeros(1, 3)
        self.place_1 = torch.zeros(1, dtype=torch.long)
        self.memory_S3, self.scale = torch.zeros(2, 3), 1.0

    def __call__(self) -> Tensor:
        x_13 = torch.nn.functional.linear(self.newest_13, self.weight_33.sqrt() + 1)
        self.sum_13.add_(x_13)
        self.memory_S3.index_copy_(0, self.place_1, x_13)
        read_13 = (
            self.memory_S3.t() @ self.memory_S3.new_ones(len(self.memory_S3), 1)
        ).t() * self.scale
        return torch.cat([read_13.relu() * 2 + x_13, self.sum_13], dim=1)

    def grow(self) -> None:
        self.memory_S3 = torch.cat([self.memory_S3, torch.zeros(2, 3)])

    def move_on(self) -> None:
        self.newest_13.mul_(2)
        self.place_1 += 1


def recorded_again(step: Growing, n_times: int) -> list[Recording]:
    """Record a step as often as its memory grows, and play it in between, beside a plain one."""
    plain, recordings = Growing(), []
    with torch.inference_mode():
        for n in range(2 * n_times):
            if n % 2 == 0:
                recordings.append(record(step, [step.weight_33], (recordings or [None])[-1]))
                given = recordings[-1].result
            else:
                given = recordings[-1]()
            torch.testing.assert_close(given, plain())
            for each in (step, plain):
                each.move_on()
                if n % 2:
                    each.grow()
    return recordings


def test_it_goes_on_from_where_it_was():
    recorded_again(Growing(), 4)


def test_only_what_reads_the_grown_memory_is_noted_anew():
    first, second = recorded_again(Growing(), 2)
    new = [each for each in second.operations if each not in first.operations]
    assert len(first.operations) == len(second.operations) == 14
    assert [each.function.__name__ for each in new] == ["index_copy_", "t", "new_ones", "matmul"]


@pytest.mark.parametrize("change", ["scale", "dtype", "operations"])
def test_another_step_is_never_taken_for_the_earlier_one(change):
    step = Growing()
    with torch.inference_mode():
        earlier, plain = record(step, [step.weight_33]), Growing()
        plain()
        for each in (step, plain):
            each.move_on()
            if change == "scale":
                each.scale = 3.0
            elif change == "dtype":
                each.memory_S3 = each.memory_S3.double()
                each.newest_13, each.weight_33 = each.newest_13.double(), each.weight_33.double()
            else:
                each.newest_13 = torch.ones(1, 6)[:, ::2] + each.newest_13 - 1
        after = (lambda: step() + 1 - 1) if change == "operations" else step
        play = record(after, [step.weight_33], earlier)
        torch.testing.assert_close(play.result, plain())
        torch.testing.assert_close(play(), plain())


def test_weights_are_laid_out_once(monkeypatch):
    weight_36, newest_16, memory_S3 = torch.randn(3, 6), torch.randn(1, 6), torch.ones(2, 3)
    laid_out, product = [], products._product
    monkeypatch.setattr(
        products, "_product", lambda *a, **k: laid_out.append(a) or product(*a, **k)
    )

    def step() -> Tensor:
        return torch.nn.functional.linear(newest_16, weight_36) + memory_S3.sum(0)

    with torch.inference_mode():
        earlier = record(step, [weight_36])
        memory_S3 = torch.ones(4, 3)
        play = record(step, [weight_36], earlier)
        newest_16.normal_()
        torch.testing.assert_close(play(), step())
    assert len(laid_out) == 1


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 3, 7]])
def test_as_caches_grow_most_of_a_step_stays_as_it_was(build, monkeypatch, lengths):
    """Without that, the text would be the same, and only slower."""
    monkeypatch.setattr(reading, "WORTH_RECORDING", 0)
    monkeypatch.setattr(reading, "SMALLEST_BLOCK", 8)
    monkeypatch.setattr(reading, "BLOCK", 8)
    noted, note = [], recording.note
    monkeypatch.setattr(recording, "note", lambda *args: noted.append(args) or note(*args))
    model = build(context_length=64)
    prompts = [[(7 * i + n) % 256 for i in range(n)] for n in lengths]
    reader, at_capacity = reading.Reader(model, prompts, 40, use_cache=True), {}
    with torch.inference_mode():
        for _ in range(25):
            noted.clear()
            ids_N = reader.next_logits().argmax(-1)
            if noted and "token" in reader.recorded:
                at_capacity[reader.capacity] = len(noted)
            reader.append(ids_N)
    first, *later = at_capacity.values()
    assert len(later) == 3
    assert max(later) < first / 2


@pytest.mark.parametrize("is_view_first", [True, False])
def test_what_was_a_copy_may_be_a_view_and_the_other_way_round(is_view_first):
    side_by_side_23, turned_23 = torch.ones(2, 3), torch.full((3, 2), 5.0).t()
    memory_23 = side_by_side_23 if is_view_first else turned_23

    def step() -> Tensor:
        return memory_23.reshape(6).add_(1) * 2

    with torch.inference_mode():
        earlier = record(step, [])
        memory_23 = turned_23 if is_view_first else side_by_side_23
        play = record(step, [], earlier)
        assert play.result.eq(12 if is_view_first else 4).all()
    assert side_by_side_23.eq(2).all()
    assert turned_23.eq(5).all()
