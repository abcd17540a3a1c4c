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


class Recording:
    """A step that was done, and what does it again with what is in memory then.

    `result`: what the step gives, overwritten each time.
    """

    def __init__(
        self,
        operations: list[Operation],
        result: Tensor,
        constants: Iterable[Tensor],
        earlier: "Recording | None",
    ):
        self.operations, self.result = operations, result
        known = earlier.products if earlier else {}
        self.products = {each: known[each] for each in operations if each in known}
        fixed = {memory(tensor) for tensor in constants}
        kept, changing = leave_out_constants(operations, fixed)
        self.calls = lay_out(kept, changing, result, self.products)

    def __call__(self) -> Tensor:
        for call in self.calls:
            call()
        return self.result


def record(
    step: Callable[[], Tensor], constants: Iterable[Tensor], earlier: Recording | None = None
) -> Recording:
    """Do a step, and note how to do it again.

    constants: tensors that never change.
    earlier: a recording of the same step that no longer holds, as caches have grown. What has not
    changed is taken from it, and its memory, so that it must not be played any more.
    Raises NotRepeatable, perhaps when half of the step is done.
    """
    with _Recorder(earlier.operations if earlier else []) as recorder, fixed_weights():
        result = step()
    return Recording(recorder.operations, result, constants, earlier)


class _Recorder(TorchFunctionMode):
    """Notes operations as they are done, or finds them among earlier ones, in the same order."""

    def __init__(self, earlier: Sequence[Operation]) -> None:
        super().__init__()
        self.earlier = earlier
        self.operations: list[Operation] = []
        self.sizes: dict[int, int] = {}  # of what was made, in bytes

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, n = kwargs or {}, len(self.operations)
        earlier = self.earlier[n] if n < len(self.earlier) else None
        if earlier is not None and earlier.is_of(func, args, kwargs):
            if earlier.again is not None:
                earlier.again()
            self._add(earlier)
            return earlier.result
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if _is_sized_by_contents(name, args, kwargs):
            raise NotRepeatable(name)
        if earlier is not None and earlier.may_hold(result, func, (args, kwargs)):
            result = earlier.result.copy_(result)  # so that what follows stays the same
        made = [args[0]] if name == "__setitem__" else tensors_in(result)
        if made:
            self._add(note(func, args, kwargs, result, made))
        elif name not in ABOUT_SHAPES and name != "__get__":
            raise NotRepeatable(name)
        return result

    def _add(self, operation: Operation) -> None:
        self.operations.append(operation)
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
