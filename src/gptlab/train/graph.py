"""A step as a CUDA graph: recorded once and played from then on, without a call per kernel.

A small model's step is hundreds of short calls, and a GPU waits for each. A graph reads and writes
the same memory whenever it is played: so the batch is copied to where it was recorded, the learning
rate is a number on the device, and shapes are fixed. What asks the device for a number cannot be
recorded.
"""

from collections.abc import Sequence

import torch

from gptlab.train.readings import Numbers
from gptlab.train.session import Portion, Say, Session, Update

WARM_UP = 3  # steps that are taken call by call first: libraries choose their kernels in them


class Recording:
    """Takes steps as `update` does, which must do the same to the same memory at every call.

    Where it cannot be recorded it is called for every step, with a warning.
    """

    def __init__(self, update: Update, warn: Say):
        self.update, self.warn, self.steps = update, warn, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.portions: list[Portion] = []
        self.found: Numbers = {}

    def __call__(self, s: Session, portions: Sequence[Portion]) -> Numbers:
        self.steps += 1
        if self.steps <= WARM_UP:
            return self._warm_up(s, portions)
        if self.steps == WARM_UP + 1:
            self._record(s, portions)
        if self.graph is None:
            return self.update(s, portions)
        for static, portion in zip(self.portions, portions, strict=True):
            fill(static, portion)
        self.graph.replay()
        return self.found

    def _warm_up(self, s: Session, portions: Sequence[Portion]) -> Numbers:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = self.update(s, portions)
        torch.cuda.current_stream().wait_stream(stream)
        return found

    def _record(self, s: Session, portions: Sequence[Portion]) -> None:
        """Record a step, which does not take it."""
        graph, self.portions = torch.cuda.CUDAGraph(), [still(each) for each in portions]
        try:
            with torch.cuda.graph(graph):
                self.found = self.update(s, self.portions)
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            self.warn(f"train.cuda_graphs=true, but this step cannot be recorded: {why}")
            s.model.zero_grad(set_to_none=True)
        else:
            self.graph = graph


def still(portion: Portion) -> Portion:
    """Copy a portion to memory of its own, its share too, with no masks derived of it yet."""
    x_BT, places = portion.x_BT, portion.places
    return Portion(
        x_BT.clone(),
        portion.y_BT.clone(),
        None if places is None else places.map(torch.clone),
        torch.tensor(portion.share, device=x_BT.device),
    )


def fill(static: Portion, portion: Portion) -> None:
    """Copy a portion to where another one of the same shape is."""
    assert isinstance(static.share, torch.Tensor)
    static.share.fill_(portion.share)
    static.x_BT.copy_(portion.x_BT, non_blocking=True)
    static.y_BT.copy_(portion.y_BT, non_blocking=True)
    if static.places is not None and portion.places is not None:
        static.places.positions_BT.copy_(portion.places.positions_BT, non_blocking=True)
        if static.places.documents_BT is not None and portion.places.documents_BT is not None:
            static.places.documents_BT.copy_(portion.places.documents_BT, non_blocking=True)
