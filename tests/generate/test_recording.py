import pytest
import torch

from gptlab.generate import recording
from gptlab.generate.recording import NotRepeatable, record


def test_a_played_step_reads_and_writes_what_is_in_memory_then():
    weight, memory, newest = torch.ones(3), torch.zeros(3), torch.ones(3)

    def step():
        memory.add_(newest * weight)
        return memory.clone()

    first, play = record(step, [weight])
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


def test_where_torchscript_fails_the_step_is_done_as_it_is(monkeypatch):
    memory = torch.zeros(2)

    def fail(*args, **kwargs):
        raise RuntimeError("cannot trace")

    monkeypatch.setattr(recording.torch.jit, "trace", fail)
    first, play = record(lambda: memory.add_(1).clone(), [])
    assert first.tolist() == [1, 1]
    assert play().tolist() == [2, 2]
