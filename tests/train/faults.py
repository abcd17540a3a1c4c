"""Faults that happen at a chosen moment of a training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Fault = Callable[[Any, Any], Any]


@contextmanager
def after_call(owner: Any, name: str, turn: int, fault: Fault) -> Iterator[None]:
    """Let `fault(self, result)` answer in place of the result of the `turn`-th call."""
    original, calls = getattr(owner, name), 0

    def call(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(self, *given, **named)
        return fault(self, result) if calls == turn else result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def raising(error: Exception) -> Fault:
    """Make a fault that raises."""

    def fault(self: Any, result: Any) -> Any:
        raise error

    return fault


def spoiled_loss(value: float) -> Fault:
    """Make a loss nan, inf or -inf."""

    def fault(logits: Any, losses: dict[str, Any]) -> dict[str, Any]:
        loss = losses["loss"]
        return {"loss": loss * value if value != value else loss + value}

    return fault
