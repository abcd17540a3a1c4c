"""An operation of torch's, and how to do it again in the same memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C import _nn  # pyright: ignore[reportAttributeAccessIssue]
from torch.nn.functional import linear

OTHER_ARGUMENTS = {"where"}  # torch has it with others than the method of that name
# What writes in place for sure, and takes too long to be tried.
UNTRIED = {linear: _nn.linear, torch.bmm: torch.bmm, torch.baddbmm: torch.baddbmm}
CONVERSIONS = {"contiguous", "float", "to"}  # which give what they are given where it is right

Call = Callable[[], object]


@dataclass(eq=False)
class Operation:
    """What was called with what, its result, and the tensors that it gave.

    `reads`: the memory that it is given. `fills`: that of what it gives.
    `again`: does it again; None for a view of memory that others fill.
    """

    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any
    made: list[Tensor]
    reads: set[int]
    fills: set[int]
    again: Call | None

    def is_of(self, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> bool:
        """Tell whether this is a call with the same tensors, whatever is in them now."""
        return self.function == function and _are_same((args, kwargs), (self.args, self.kwargs))

    def may_hold(self, result: Any, function: Callable[..., Any], given: Any) -> bool:
        """Tell whether a result of other tensors fits into the memory of this call's.

        Both must be memory of their own, not views of what was given.
        """
        is_own = not self.reads & self.fills and isinstance(result, Tensor)
        if self.function != function or not is_own or not isinstance(self.result, Tensor):
            return False
        is_view = memory(result) in {memory(x) for x in tensors_in(given)}
        return not is_view and _form(result) == _form(self.result)


def _form(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.stride(), x.dtype, x.device


def memory(tensor: Tensor) -> int:
    """Tell what all views of the same memory have in common."""
    return tensor.untyped_storage()._cdata


def tensors_in(tree: Any) -> list[Tensor]:
    """List the tensors of nested tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        return []
    return [x for each in tree for x in tensors_in(each)]


def _are_same(one: Any, other: Any) -> bool:
    """Tell whether trees of arguments have the same tensors, not others like them."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_are_same(one[x], other[x]) for x in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_are_same, one, other))
    return one == other


def note(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    result: Any,
    made: list[Tensor],
) -> Operation:
    """Note an operation that was just done: it may be tried again, as nothing has changed."""
    given = tensors_in((args, kwargs))
    reads, fills = {memory(x) for x in given}, {memory(x) for x in made}
    if any(x is y for x in made for y in given):
        changes_it = getattr(function, "__name__", "") not in CONVERSIONS
        again = partial(function, *args, **kwargs) if changes_it else None
    else:
        again = None if reads & fills else _into(made, function, args, kwargs)
    return Operation(function, args, kwargs, result, made, reads, fills, again)


def leave_out_constants(
    operations: Sequence[Operation], fixed: set[int]
) -> tuple[list[Operation], set[int]]:
    """Leave out what follows from memory that is `fixed`; give the rest, and what it changes."""
    fresh = {x for each in operations for x in each.fills - each.reads}
    changing = {x for each in operations for x in each.reads - fresh} - fixed
    changing |= {x for each in operations if each.again for x in each.fills & each.reads}
    kept: list[Operation] = []
    for each in operations:
        if changing & (each.reads | each.fills):
            changing |= each.fills
            kept.append(each)
    return kept, changing


def _into(
    made: list[Tensor], function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Call:
    """Find what writes over the tensors that a function made."""
    if len(made) > 1:
        return lambda: _copy(tensors_in(function(*args, **kwargs)), made)
    (out,) = made
    if function in UNTRIED and {x.dtype for x in tensors_in((args, kwargs))} == {out.dtype}:
        return partial(UNTRIED[function], *args, **kwargs, out=out)
    for form in _forms(function):
        if _gives(out, form, args, kwargs, {"out": torch.empty_like(out)}):
            return partial(form, *args, **kwargs | {"out": out})
    alike = (form for form in _forms(function) if _gives(out, form, args, kwargs))
    call = partial(next(alike, function), *args, **kwargs)
    return lambda: out.copy_(call())


def _copy(values: list[Tensor], to: list[Tensor]) -> None:
    for old, new in zip(to, values, strict=True):
        old.copy_(new)


def _forms(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Go through functions that may do the same: torch's own may write where they are told to."""
    name = getattr(function, "__name__", "")
    for namespace in (torch, _nn):
        if name not in OTHER_ARGUMENTS and hasattr(namespace, name):
            yield getattr(namespace, name)
    yield function


def _gives(
    expected: Tensor,
    form: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    out: dict[str, Tensor] | None = None,
) -> bool:
    try:
        result = form(*args, **kwargs | (out or {}))
    except Exception:  # of whatever kind: it wants other arguments, or has no `out`
        return False
    return isinstance(result, Tensor) and torch.equal(result, expected)
