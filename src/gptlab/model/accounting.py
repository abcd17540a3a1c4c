"""What can be counted of a model before it exists: parameters, FLOPs, cache, and whether it fits.

No architecture is known here. A model is built on the meta device, where tensors have shapes but
no memory, and its modules are asked. A multiplication with its addition counts as two FLOPs.

T tokens, D d_model, V vocabulary.
"""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from gptlab.model.gpt import GPT, Model
from gptlab.parts.attention import Mixer
from gptlab.parts.layers import Embedding, Linear

FLOAT32_BYTES = 4
TRAINING_BYTES = 4 * FLOAT32_BYTES  # a weight, its gradient, and AdamW's two averages


@dataclass(frozen=True)
class Parameters:
    """How many numbers are trained; what is shared counts once.

    `embedding`: token embedding, position table and head matrix; the size that scaling laws use
    (arXiv:2001.08361) is `non_embedding`. `active`: all but the experts that a token is not
    sent to. `per_part`: by the slot that owns them.
    """

    total: int
    active: int
    embedding: int
    non_embedding: int
    per_part: dict[str, int]


@dataclass(frozen=True)
class Flops:
    """FLOPs per token.

    `products`: matrix products with weights, the head's included; looking up an embedding is free.
    `scores`: attention's scores and their use, over the keys that a token sees, averaged over T.
    `training`: three times `forward` and the heads of multi-token prediction, which only training
    computes; nothing that is computed twice counts twice.
    `training_palm`: the same as if every token saw all T keys, as in the appendix of PaLM
    (arXiv:2204.02311) and most published utilizations.
    """

    products: float
    scores: float
    forward: float
    training: float
    training_palm: float


@dataclass(frozen=True)
class CacheBytes:
    """What generation remembers, for one text.

    `per_token`: what each further token adds, in layers that forget nothing.
    `full_context`: all layers after `context_length` tokens.
    """

    per_token: int
    full_context: int


def count_parameters(model: Model) -> Parameters:
    """Count the parameters of a model."""
    return _count(build_on_meta(model))


def count_flops(model: Model, T: int | None = None) -> Flops:
    """Count the FLOPs of a token in a text of T tokens; by default, as long as the context."""
    gpt, T = build_on_meta(model), T or model.context_length
    head, extra = head_flops(gpt), list(gpt.multi_token.modules())
    elsewhere = {*gpt.head.modules(), *extra}
    products = head + product_flops(module for module in gpt.modules() if module not in elsewhere)
    scores = sum(mixer.score_flops(T) for mixer in gpt.mixers())
    forward = products + scores
    n_heads = model.multi_token.depth if model.multi_token else 0
    trained = products + product_flops(extra) + n_heads * head
    mixers = gpt.mixers() + [module for module in extra if isinstance(module, Mixer)]
    return Flops(
        products,
        scores,
        forward,
        3 * (trained + sum(mixer.score_flops(T) for mixer in mixers)),
        3 * (trained + sum(mixer.score_flops_of_all(T) for mixer in mixers)),
    )


def training_flops_per_token(model: Model) -> float:
    """Count the FLOPs that training on one token takes."""
    return count_flops(model).training


def cache_bytes(model: Model, element_size: int = 2) -> CacheBytes:
    """Measure the caches of generation, of a model whose numbers take `element_size` bytes each.

    Positions and other whole numbers, which are few, are left out.
    """
    gpt = build_on_meta(model).to({2: torch.bfloat16, 4: torch.float32}[element_size])
    full = _cached_bytes(gpt, model.context_length)
    return CacheBytes(_cached_bytes(gpt, model.context_length + 1) - full, full)


def check_fits(model: Model, memory_bytes: int) -> None:
    """Refuse a model whose training state alone exceeds the memory, before any is taken.

    Raises ValueError with the model's sizes. The state is weights, gradients and optimizer.
    """
    sizes = ", ".join(
        f"model.{name}={getattr(model, name)}"
        for name in ("d_model", "n_layers", "vocab_size", "context_length")
    )
    needed = TRAINING_BYTES * count_parameters(model).total
    if needed > memory_bytes:
        raise ValueError(
            f"{sizes}: weights, gradients and optimizer take {needed / 1e9:,.1f} GB, more than "
            f"the {memory_bytes / 1e9:,.1f} GB there are; make the model smaller"
        )


def build_on_meta(model: Model) -> GPT:
    """Build a model whose parameters have shapes, but neither memory nor values."""
    with torch.device("meta"), _NoInitialValues(), _no_garbage():
        return GPT(model)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Pause the search for garbage, which walks through all that stands already, over and over.

    It is more than half of the time that thousands of experts take.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _NoInitialValues(TorchFunctionMode):
    """Skip torch's own initial values: nobody sees them, and on meta they load sympy (0.7 s)."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return None
        return func(*args, **(kwargs or {}))


class _ProductCounter(TorchFunctionMode):
    """Count the FLOPs of matrix products with weights, without computing them."""

    flops = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not linear:
            return func(*args, **(kwargs or {}))
        x, weight = args[:2]
        rows = x.numel() // x.shape[-1]
        self.flops += 2 * rows * weight.numel()
        return x.new_empty(*x.shape[:-1], weight.shape[0])


def product_flops(modules: Iterable[nn.Module]) -> float:
    """Count the FLOPs of the products with these modules' own weights, for one token."""
    return sum(
        2 * module.weight.numel() * module.per_token * module.used
        for module in modules
        if isinstance(module, Linear)
    )


def head_flops(gpt: GPT) -> int:
    """Count the head's FLOPs for one token; a tied one has no matrix of its own to look at."""
    embedding_VD = gpt.embedding.weight
    x_11D = embedding_VD.new_empty(1, 1, embedding_VD.shape[1])
    with _ProductCounter() as counter:
        gpt.head.scores(x_11D, embedding_VD)
    return counter.flops


def _count(gpt: nn.Module) -> Parameters:
    tables = {
        id(module.weight)
        for module in gpt.modules()
        if isinstance(module, Embedding | Linear)
        and module.role in ("embedding", "position", "head")
    }
    per_part: dict[str, int] = {}
    total = embedding = 0
    for name, parameter in gpt.named_parameters():
        part, size = part_of(name), parameter.numel()
        per_part[part] = per_part.get(part, 0) + size
        total += size
        embedding += size if id(parameter) in tables else 0
    active = round(total - _idle(gpt))
    return Parameters(total, active, embedding, total - embedding, per_part)


def _idle(gpt: nn.Module) -> float:
    """Count the parameters that a token, on average, leaves unused."""
    return sum(
        (1 - module.used) * sum(parameter.numel() for parameter in module.parameters())
        for module in gpt.modules()
        if isinstance(module, Linear)
    )


def part_of(name: str) -> str:
    """Name the slot that owns a parameter: `blocks.3.mlp.up.weight` is the mlp's."""
    path = name.split(".")
    part = path[2] if path[0] == "blocks" else path[0]
    return "residual" if part == "ends" else part  # a residual part builds its own ends


@torch.no_grad()
def _cached_bytes(gpt: GPT, capacity: int) -> int:
    caches = gpt.new_caches(capacity)
    gpt(torch.zeros(1, 1, dtype=torch.long, device="meta"), caches=caches)
    return sum(tensor.nbytes for tensor in _tensors(caches) if tensor.is_floating_point())


def _tensors(thing: Any) -> Iterator[Tensor]:
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, Mapping):
        yield from _tensors(list(thing.values()))
    elif isinstance(thing, list | tuple):
        for item in thing:
            yield from _tensors(item)
    elif hasattr(thing, "__dict__"):
        yield from _tensors(vars(thing))
