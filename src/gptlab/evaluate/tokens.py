"""How well a tokenizer writes a text down: compression, use of the vocabulary, speed."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gptlab.tokenizer import Encoder

LISTED = 10  # tokens of a list


@dataclass(frozen=True)
class TokenFacts:
    """What was counted in one encoding of a text.

    `tokens_per_word`: words are what stands between white space ("fertility"). `used`: ordinary
    tokens that occur, `use`: their share of all there are. `entropy`: bits per token, if tokens
    were drawn by their frequencies alone; `evenness`: its share of the most that this vocabulary
    could have. `order_0_bits_per_byte`: what such a model pays for a byte of text. `counts`: of
    each ordinary token.
    """

    vocab_size: int
    special: int
    tokens: int
    bytes_per_token: float
    characters_per_token: float
    tokens_per_word: float
    used: int
    use: float
    entropy: float
    evenness: float
    order_0_bits_per_byte: float
    megabytes_per_second: float
    longest: list[bytes]
    unused: list[bytes]
    counts: np.ndarray


def count_tokens(encoder: Encoder, documents: Sequence[str]) -> TokenFacts:
    """Encode documents and count. Raises ValueError for what the tokenizer cannot write down."""
    began = time.perf_counter()
    ids = encoder.encode_all(documents)
    seconds = time.perf_counter() - began
    counts = sum(
        (np.bincount(part, minlength=encoder.vocab_size) for part in ids),
        np.zeros(encoder.vocab_size, np.int64),
    )
    ordinary = np.setdiff1d(np.arange(encoder.vocab_size), list(encoder.special.values()))
    n_bytes = sum(len(document.encode("utf-8")) for document in documents)
    n_tokens = int(counts.sum())
    if not n_tokens:
        raise ValueError("there is no text to count tokens in")
    used = ordinary[counts[ordinary] > 0]
    p = counts[used] / n_tokens
    entropy = float(-(p * np.log2(p)).sum())
    return TokenFacts(
        vocab_size=encoder.vocab_size,
        special=len(encoder.special),
        tokens=n_tokens,
        bytes_per_token=n_bytes / n_tokens,
        characters_per_token=sum(map(len, documents)) / n_tokens,
        tokens_per_word=n_tokens / max(1, sum(len(document.split()) for document in documents)),
        used=len(used),
        use=len(used) / len(ordinary),
        entropy=entropy,
        evenness=entropy / math.log2(len(ordinary)) if len(ordinary) > 1 else 1.0,
        order_0_bits_per_byte=entropy * n_tokens / n_bytes,
        megabytes_per_second=n_bytes / 1e6 / seconds,
        longest=_longest(encoder, used),
        unused=_longest(encoder, ordinary[counts[ordinary] == 0]),
        counts=counts[ordinary],
    )


def _longest(encoder: Encoder, ids: np.ndarray) -> list[bytes]:
    contents = (encoder.bytes_of(int(id)) for id in ids)
    return sorted(contents, key=len, reverse=True)[:LISTED]
