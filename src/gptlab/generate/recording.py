"""A step of generation, recorded once and played back without Python.

A small model's step is hundreds of operations of a few microseconds each, and more time goes by
between them than in them. When every step does the same operations on the same memory, only with
other contents, they can be noted down as they happen and then run as one program of TorchScript's,
which torch 2.13 calls deprecated and does not replace: `torch.compile` takes longer to begin than
most texts take to write.

What cannot be played back is a step that looks into tensors to decide what to do, such as a mixture
of experts; it is refused while it is recorded. Shapes stay as they were: whoever changes them, or
puts other tensors in the place of those that were recorded, records anew.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

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


class NotRepeatable(Exception):
    """What a step does depends on the contents of tensors."""


def record(
    step: Callable[[], Tensor], constants: Iterable[Tensor]
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Do a step; give its result, and a function that does it again with what is in memory then.

    constants: tensors that never change. Where TorchScript fails, the function is the step itself.
    Raises NotRepeatable, perhaps when half of the step is done.
    """
    with _Recorder() as recorder:
        result = step()
    fixed = {id(tensor) for tensor in constants}
    changing = [x for x in recorder.given.values() if id(x) not in fixed]
    program = _Program(recorder, changing, result)
    with warnings.catch_warnings(), torch.jit.optimized_execution(False):
        warnings.simplefilter("ignore")
        copies = tuple(x.clone() for x in changing)  # tracing is another step
        try:
            compiled: Any = torch.jit.trace(program.run, copies, check_trace=False)
        except (AttributeError, RuntimeError):
            return result, step

    def play() -> Tensor:
        with torch.jit.optimized_execution(False):  # it would first watch, then compile
            return compiled(*changing)[0]

    return result, play


class _Made:
    """Stands for a tensor that is not a constant."""

    def __init__(self, key: int):
        self.key = key


class _Recorder(TorchFunctionMode):
    """Notes operations with what they are given: `_Made` for what others made."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.given: dict[int, Tensor] = {}  # what comes from outside
        self.made: dict[int, Tensor] = {}  # kept, so that no other takes its id

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if _is_sized_by_contents(name, args, kwargs):
            raise NotRepeatable(name)
        if any(isinstance(x, Tensor) for x in tree_leaves(result)) or name == "__setitem__":
            inputs = tree_map(self._note_input, (args, kwargs))
            self.operations.append((func, *inputs, tree_map(self._note_result, result)))
        elif name not in ABOUT_SHAPES and name != "__get__":
            raise NotRepeatable(name)
        return result

    def _note_input(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self.made:
            self.given[id(x)] = x
        return _Made(id(x))

    def _note_result(self, x: Any) -> Any:
        if isinstance(x, Tensor) and id(x) not in self.given:
            self.made[id(x)] = x
        return _Made(id(x)) if isinstance(x, Tensor) else None


def _is_sized_by_contents(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    further = [x for x in tree_leaves((args[1:], kwargs)) if isinstance(x, Tensor | slice)]
    if name == "__getitem__":
        return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in further) or any(
            isinstance(end, Tensor)
            for x in further
            if isinstance(x, slice)
            for end in (x.start, x.stop, x.step)
        )
    if name == "where":
        return len(args) == 1
    return name in SIZED_BY_CONTENTS or (name == "repeat_interleave" and bool(further))


class _Program:
    """Operations in their order, on tensors by what they were when they were recorded."""

    def __init__(self, recorder: _Recorder, changing: list[Tensor], result: Tensor):
        self.operations = recorder.operations
        self.tensors = {key: tensor.detach() for key, tensor in recorder.given.items()}
        self.changing, self.result = [id(x) for x in changing], id(result)

    def run(self, *changing: Tensor) -> tuple[Tensor, ...]:
        """Give the result, and what changes: TorchScript leaves out what nobody asks for."""
        tensors = self.tensors | dict(zip(self.changing, changing, strict=True))

        def value(x: Any) -> Any:
            return tensors[x.key] if isinstance(x, _Made) else x

        for function, args, kwargs, made in self.operations:
            result = function(*tree_map(value, args), **tree_map(value, kwargs))
            for x, tensor in zip(tree_leaves(made), tree_leaves(result), strict=True):
                if isinstance(x, _Made):
                    tensors[x.key] = tensor
        return tensors[self.result], *(tensors[key] for key in self.changing)
