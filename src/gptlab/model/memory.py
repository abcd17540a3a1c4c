"""How much memory a training step takes, found by playing it through without taking any.

One step runs on fake tensors, which have shapes, types and lifetimes as real ones do but no
contents, while every storage that comes and goes is counted.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT, Model


class Steps(Protocol):
    """What an optimizer must be able to do here: use the gradients, then forget them."""

    def step(self) -> Any: ...


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training step takes.

    `activations`: what is alive when the loss is known, beside weights, optimizer, gradients.
    `peak`: everything at the worst moment; less than the sum where gradients come as activations
    go. `assumes`: what was played through.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    assumes: str


class StepWithAdamW:
    """AdamW as most train with it: two averages per weight."""

    def __init__(self, model: nn.Module):
        self.adamw = torch.optim.AdamW(model.parameters(), fused=True)

    def step(self) -> None:
        """Take a step and forget the gradients."""
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)


def training_memory(
    model: Model,
    batch_size: int,
    build_optimizer: Callable[[nn.Module], Steps] = StepWithAdamW,
    *,
    accumulate: bool = False,
    bf16: bool = False,
    documents: bool = False,
) -> TrainingMemory:
    """Find the memory of a training step on the CPU, once the optimizer has its state.

    batch_size: rows of `context_length` tokens that are computed at once.
    accumulate: whether gradients of an earlier portion of the batch are there already.
    bf16: whether products run in bfloat16, by autocast.
    documents: whether rows hold several documents that do not see each other, which takes masks.
    """
    with FakeTensorMode(), StorageCounter() as counter:
        gpt = GPT(model)
        weights = counter.live
        optimizer = build_optimizer(gpt)
        _fill_gradients(gpt)
        optimizer.step()
        state = counter.live - weights
        if accumulate:
            _fill_gradients(gpt)
        before = counter.peak = counter.live
        tokens_BT = torch.zeros(batch_size, model.context_length, dtype=torch.long)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            places = Places(tokens_BT, tokens_BT) if documents else None
            losses = gpt.losses(tokens_BT, tokens_BT, places)
            loss = torch.stack(list(losses.values())).sum()
        activations = counter.live - before
        loss.backward()
        optimizer.step()
        peak = counter.peak
    return TrainingMemory(
        weights, weights, state, activations, peak, _assumptions(model, batch_size, bf16)
    )


class StorageCounter(TorchDispatchMode):
    """Count the bytes of all storages that operations make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _fill_gradients(gpt: GPT) -> None:
    for parameter in gpt.parameters():
        parameter.grad = torch.empty_like(parameter)


def _assumptions(model: Model, batch_size: int, bf16: bool) -> str:
    products = "bfloat16" if bf16 else "float32"
    return (
        f"on a CPU, weights in float32, products in {products}, {batch_size} x "
        f"{model.context_length} tokens at a time; without the interpreter, the data, and gaps "
        "that the allocator leaves"
    )
