"""What steps have found, losses and the gradient's norm, on its way from the device.

To ask a GPU for a number is to wait until it has done all that it was given, and then it waits in
turn. So its numbers may be read a step late: then it is the device that leaves weights as they are
from the first step on whose numbers are not finite, and the error comes a step later.
"""

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

Numbers = dict[str, Tensor]
GRAD_NORM = "grad_norm"


@dataclass(frozen=True)
class Reading:
    """The numbers of a step, on the processor's side when `arrived` has been waited for."""

    step: int
    names: tuple[str, ...]
    values: Tensor
    arrived: torch.cuda.Event | None

    def read(self) -> dict[str, float]:
        """Wait, and give the numbers; FloatingPointError if one is not finite."""
        if self.arrived is not None:
            self.arrived.synchronize()
        numbers = dict(zip(self.names, self.values.tolist(), strict=True))
        if not all(map(math.isfinite, numbers.values())):
            raise FloatingPointError(
                f"the run diverged at step {self.step}: loss {numbers['loss']}, gradient norm "
                f"{numbers[GRAD_NORM]}; try a lower optimizer.lr, a longer schedule.warmup or a "
                "smaller train.grad_clip"
            )
        return numbers


class Readings:
    """Numbers that have been sent for, oldest first.

    broken: where numbers are read late, 1 on the device once some were not finite; else None.
    """

    def __init__(self, device: torch.device, late: bool):
        self.waiting: deque[Reading] = deque()
        self.broken = torch.zeros((), device=device) if late else None

    def check(self, found: Numbers, step: int) -> None:
        """Take note on the device if something is not finite, or else look at once."""
        if self.broken is None:
            _sent(step, found).read()
        else:
            is_finite = torch.stack(list(found.values())).isfinite().all()
            self.broken.copy_(torch.maximum(self.broken, (~is_finite).float()))

    def send(self, step: int, found: Numbers) -> None:
        """Send for the numbers of a step."""
        self.waiting.append(_sent(step, found))


def _sent(step: int, found: Numbers) -> Reading:
    values = torch.stack(list(found.values()))
    on_host = values.to("cpu", non_blocking=values.is_cuda)
    arrived = None
    if values.is_cuda:
        arrived = torch.cuda.Event()
        arrived.record()
    return Reading(step, tuple(found), on_host, arrived)
