"""Validation: the loss on the whole fixed validation set, in a fixed order.

Each token but the first is predicted once, in windows of the model's context that follow one
another. Losses are added up in float64, so that the result does not depend on how many windows are
computed at once.

B windows, T tokens of a window.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from gptlab.data.batching import Batching
from gptlab.data.corpus import Corpus
from gptlab.data.shards import Tokens
from gptlab.kernels.places import Places
from gptlab.model.gpt import GPT

LOGITS_AT_ONCE = 2**24  # elements: bounds the memory of an evaluation
TOKENS_AT_ONCE = 4096  # on a CPU: what layers make of more of them does not stay in its caches


@torch.inference_mode()
def validation_loss(
    model: GPT,
    tokens: Tokens,
    rows: int | None = None,
    stop: Callable[[], object] = lambda: None,
    places: Callable[[np.ndarray], Places | None] = lambda targets_BT: None,
) -> float | None:
    """Compute the mean loss in nats per token; None if `stop()` turns true on the way.

    `rows`: windows computed at once, by default as many as suit the machine. Dropout is off.
    `places`: tells, of the tokens to predict, given by their numbers, where they stand; None: a
    window is one text.
    """
    T = model.context_length
    device = model.embedding.weight.device
    rows = rows or _rows_at_once(T, model.embedding.num_embeddings, device.type)
    n_targets = len(tokens) - 1
    full = n_targets // T
    total = 0.0
    spans = [(i * T, min(i + rows, full) * T) for i in range(0, full, rows)]
    if n_targets % T:
        spans.append((full * T, n_targets))
    was_training = model.training
    model.eval()
    try:
        for start, end in spans:
            if stop():
                return None
            width = min(T, end - start)
            span = torch.from_numpy(tokens[start : end + 1].astype(np.int64)).to(device)
            x_BT, y_BT = span[:-1].view(-1, width), span[1:].view(-1, width)
            where = places(np.arange(start + 1, end + 1).reshape(-1, width))
            losses = model.loss(x_BT, y_BT, reduction="none", places=where)
            total += losses.cpu().double().sum().item()
    finally:
        model.train(was_training)
    return total / n_targets


def val_places(
    corpus: Corpus, batching: Batching, device: torch.device
) -> Callable[[np.ndarray], Places | None]:
    """Place validation tokens as batching places those of training; for `validation_loss`."""

    def places(targets_BT: np.ndarray) -> Places | None:
        documents_BT = np.searchsorted(corpus.val_starts, targets_BT, side="right")
        positions_BT = batching.positions(documents_BT)
        if positions_BT is None:
            return None
        both = (torch.from_numpy(each).to(device) for each in (positions_BT, documents_BT))
        return Places(*both)

    return places


def _rows_at_once(T: int, vocab_size: int, device: str) -> int:
    tokens = LOGITS_AT_ONCE // vocab_size
    return max(1, (min(tokens, TOKENS_AT_ONCE) if device == "cpu" else tokens) // T)


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: float) -> float:
    """Convert a loss to bits per byte of text, which no tokenizer can flatter."""
    return nats_per_token * n_tokens / n_bytes / math.log(2)


def perplexity(nats_per_token: float) -> float:
    """Convert a loss to the number of tokens, all as likely, between which the model wavers."""
    return math.exp(min(nats_per_token, 700.0))  # what a float holds
