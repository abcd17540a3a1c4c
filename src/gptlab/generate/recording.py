"""A step of generation, recorded once and done again without what goes on around it.

A small model's step is hundreds of operations of a few microseconds each, and more time goes by
between them than in them. When every step does the same operations on the same memory, only with
other contents, they can be noted down as they happen and done again into the memory of their
results. Then views are there already, what follows from constants alone is known, and a product may
be laid out for it (`products.py`). So a step becomes a list of calls.

What cannot be done again is a step that looks into tensors to decide what to do, such as a mixture
of experts; it is refused while it is recorded. Shapes stay as they were: whoever changes them, or
puts other tensors in the place of those that were recorded, records anew.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gptlab.generate.operations import Operation, leave_out_constants, memory, note, tensors_in
from gptlab.generate.products import lay_out
from gptlab.parts.layers import fixed_weights

ABOUT_SHAPES = {
    "size",
    "dim",
    "element_size",
    "numel",
    "stride",
    "is_floating_point",
    "promote_types",
    "__len__",
    "unbind",
}
SIZED_BY_CONTENTS = {
    "argwhere",
    "bincount",
    "masked_select",
    "nonzero",
    "one_hot",
    "unique",
    "unique_consecutive",
}


MOST_BYTES = 2**27  # of results, which a recorded step holds all at once


class NotRepeatable(Exception):
    """What a step does depends on the contents of tensors, or takes too much memory."""


def record(
    step: Callable[[], Tensor], constants: Iterable[Tensor]
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Do a step; give its result, and a function that does it again with what is in memory then.

    The result is overwritten each time. constants: tensors that never change.
    Raises NotRepeatable, perhaps when half of the step is done.
    """
    with _Recorder() as recorder, fixed_weights():
        result = step()
    fixed = {memory(tensor) for tensor in constants}
    calls = lay_out(*leave_out_constants(recorder.operations, fixed), result)

    def play() -> Tensor:
        for call in calls:
            call()
        return result

    return result, play


class _Recorder(TorchFunctionMode):
    """Notes operations as they are done."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.sizes: dict[int, int] = {}  # of what was made, in bytes

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if _is_sized_by_contents(name, args, kwargs):
            raise NotRepeatable(name)
        made = [args[0]] if name == "__setitem__" else tensors_in(result)
        if made:
            self.operations.append(note(func, args, kwargs, made))
            self._weigh(self.operations[-1])
        elif name not in ABOUT_SHAPES and name != "__get__":
            raise NotRepeatable(name)
        return result

    def _weigh(self, operation: Operation) -> None:
        for x in operation.made:
            if memory(x) not in operation.reads:
                self.sizes[memory(x)] = x.untyped_storage().nbytes()
        if sum(self.sizes.values()) > MOST_BYTES:
            raise NotRepeatable("memory")


def _is_sized_by_contents(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else args[1:]
        ends = [end for x in index if isinstance(x, slice) for end in (x.start, x.stop, x.step)]
        has_mask = any(x.dtype == torch.bool for x in tensors_in(index))
        return has_mask or any(isinstance(end, Tensor) for end in ends)
    if name == "where":
        return len(args) == 1
    is_counted = name == "repeat_interleave" and bool(tensors_in((args[1:], kwargs)))
    return is_counted or name in SIZED_BY_CONTENTS
