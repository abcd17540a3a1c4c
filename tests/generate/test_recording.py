import pytest
import torch
from torch.overrides import TorchFunctionMode

from gptlab.generate import recording
from gptlab.generate.recording import NotRepeatable, record


def test_a_played_step_reads_and_writes_what_is_in_memory_then():
    weight, memory, newest = torch.ones(3), torch.zeros(3), torch.ones(3)

    def step():
        memory.add_(newest * weight)
        return memory.clone()

    play = record(step, [weight])
    first = play.result.clone()
    assert first.tolist() == memory.tolist() == [1, 1, 1]
    newest.fill_(5)
    assert play().tolist() == memory.tolist() == [6, 6, 6]
    memory.zero_()
    assert play().tolist() == memory.tolist() == [5, 5, 5]


x = torch.tensor([3, 0, 2])


@pytest.mark.parametrize(
    "look",
    [
        lambda: x + x.max().item(),
        lambda: x + len(x.tolist()),
        lambda: x if x.any() else -x,
        lambda: x[: x[2]],
        lambda: x[x > 0],
        lambda: x[int(x[2])],
        lambda: torch.where(x > 0)[0],
        lambda: x.nonzero(),
        lambda: x.repeat_interleave(x),
        lambda: torch.repeat_interleave(x, repeats=x),
        lambda: torch.nn.functional.one_hot(x),
        lambda: torch.from_numpy(x.numpy()),
        lambda: x.bincount(),
    ],
)
def test_a_step_that_looks_into_tensors_is_refused(look):
    with pytest.raises(NotRepeatable):
        record(look, [])


def test_what_follows_from_constants_is_not_done_again():
    done, constant, changing = [], torch.ones(3), torch.ones(3)

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            done.append(func.__name__)
            return func(*args, **kwargs or {})

    def step():
        frequency = constant.float() * torch.arange(3).cos()
        return (changing.view(1, 3) * frequency)[0].add(1)

    play = record(step, [constant])
    changing.fill_(2)
    with Watching():
        played = play()
    assert done == ["mul", "add"]
    assert played.equal(step())


def test_memory_that_a_step_takes_and_fills_is_new_each_time():
    newest = torch.ones(2)

    def step():
        sums, table = torch.zeros(2), torch.zeros(2, 2)
        table[1] = newest
        return sums.add_(newest) + table.sum(0) + torch.stack([*table.unbind()]).max(0).values

    play = record(step, [])
    first = play.result.clone()
    assert first.tolist() == [3, 3]
    newest.fill_(4)
    assert play().tolist() == play().tolist() == [12, 12]


@pytest.mark.parametrize(
    "step",
    [
        lambda x, y: torch.where(x > y, x, y),
        lambda x, y: x.where(x > y, y),
        lambda x, y: (x > 0).where(y > 0, y < 1).float(),
        lambda x, y: 1 / (2 - x) ** 2,
        lambda x, y: torch.stack(x.sort(descending=True)[:1] + x.chunk(1)),
        lambda x, y: (x / y).nan_to_num(7) + x / (y - y),
        lambda x, y: torch.nn.functional.layer_norm(x, (4,), weight=y),
        lambda x, y: torch.nn.functional.silu(x) * torch.nn.functional.relu(y, inplace=False),
        lambda x, y: torch.empty(4).copy_(x).mul_(y).contiguous(),
    ],
)
def test_whatever_a_step_does_it_does_again(step):
    with torch.inference_mode():
        x, y = torch.randn(4), torch.randn(4)
        play = record(lambda: step(x, y), [])
        for _ in range(2):
            x.copy_(torch.randn(4))
            y.copy_(torch.randn(4))
            torch.testing.assert_close(play(), step(x, y), equal_nan=True)


def test_memory_beyond_what_a_recording_may_hold_is_refused(monkeypatch):
    monkeypatch.setattr(recording, "MOST_BYTES", 3_999)
    newest = torch.ones(500)
    record(lambda: (newest + 1).add_(1)[:3].view(3, 1), [])
    with pytest.raises(NotRepeatable, match="memory"):
        record(lambda: newest + (newest + 1), [])


def test_what_writes_in_place_for_some_arguments_is_not_taken_for_others():
    newest = torch.tensor([[3.0, 1.0], [2.0, 5.0]])
    steps = [
        lambda: newest.sum(-1),
        lambda: newest.sum(-1, keepdim=True),
        lambda: newest.sum(),
        lambda: newest.clamp(min=2),
        lambda: newest.clamp(max=2),
        lambda: newest.mT.sum(-1),
        lambda: newest.max(),
        lambda: newest.sort(descending=True).values,
        lambda: newest.sort(descending=False).values,
    ]
    plays = [record(step, []) for step in steps]
    newest.copy_(torch.tensor([[4.0, 7.0], [0.0, 2.5]]))
    for step, play in zip(steps, plays, strict=True):
        assert play().equal(step())
