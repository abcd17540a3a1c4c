"""From documents to token ids, split into training and validation.

One rule for every source and machine: documents stand in the order of the sha256 of their content,
so that the end of the corpus is a fair sample of them. Of all their characters, the last
`val_fraction` are for validation; a document at the cut is cut in two. The cut does not depend on
the tokenizer. Between documents stands end_of_text or, where the tokenizer has none, a blank line;
before each one start_of_text, where the tokenizer has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from gptlab.data.shards import Tokens
from gptlab.tokenizer import Encoder, Tokenizer

if TYPE_CHECKING:
    from gptlab.data.sources import Data
    from gptlab.data.sources._texts import Texts

BLANK_LINE = "\n\n"


@dataclass(frozen=True)
class Text:
    """A training text. `starts`: where each document starts; what ends it belongs to it.

    `weight`: how much of it is read, beside other texts. `name` and `n_ids`: of a text on disk,
    whose ids nobody has looked at, where it is and how many ids there are.
    """

    tokens: Tokens
    starts: np.ndarray
    weight: float = 1.0
    name: str = ""
    n_ids: int | None = None


@dataclass(frozen=True)
class Corpus:
    """Token ids of both splits, uint16 where the vocabulary allows it, else uint32.

    `texts`: what training reads: one, or several that are mixed. `val_starts`: where each
    validation document starts.
    `val_bytes`: UTF-8 bytes of the validation documents, but for those of the first token, which
    nothing predicts. What stands between documents costs nats and counts no bytes. So with any
    tokenizer, bits per byte = mean nats per token * (len(val) - 1) / val_bytes / ln 2.
    `n_bytes`: UTF-8 bytes of all documents. `fingerprint`: sha256 of the ids of both splits.
    """

    texts: tuple[Text, ...]
    val: Tokens
    val_starts: np.ndarray
    val_bytes: int
    n_bytes: int
    fingerprint: str


def prepare(data: "Texts", tokenizer: Tokenizer) -> tuple[Encoder, Corpus]:
    """Read the text, train the tokenizer on its training split, and tokenize both splits.

    A tokenizer that must see all text is shown validation text, and what joins documents, too.
    """
    encoder = train_tokenizer([data], tokenizer)
    return encoder, tokenize(data.documents(), encoder, data.val_fraction)


def train_tokenizer(texts: Sequence["Texts"], tokenizer: Tokenizer) -> Encoder:
    """Train a tokenizer on the training splits of texts."""
    seen: list[str] = []
    for data in texts:
        documents = in_fixed_order(data.documents())
        train, val = split(documents, data.val_fraction)
        seen += train
        if tokenizer.must_see_all_text:
            seen += val + [BLANK_LINE] * (len(documents) > 1)
    return tokenizer.train(seen)


def tokenize(documents: Sequence[str], encoder: Encoder, val_fraction: float) -> Corpus:
    """Split and encode documents, given in any order."""
    train_documents, val_documents = split(in_fixed_order(documents), val_fraction)
    train, starts = _join(train_documents, encoder)
    val, val_starts = _join(val_documents, encoder)
    first = len(encoder.bytes_of(int(val[0]))) if len(val) else 0
    return Corpus(
        texts=(Text(train, starts),),
        val=val,
        val_starts=val_starts,
        val_bytes=_n_bytes(val_documents) - first,
        n_bytes=_n_bytes(documents),
        fingerprint=_fingerprint(train, val),
    )


def check_lengths(corpus: Corpus, data: "Data", context_length: int) -> None:
    """Raise ValueError if there is too little text for one window or one prediction."""
    needs = [("training", text.tokens, context_length + 1) for text in corpus.texts]
    for name, tokens, needed in [*needs, ("validation", corpus.val, 2)]:
        if len(tokens) < needed:
            raise ValueError(
                f"{data.name}: too short: {len(tokens):,} {name} tokens, {needed:,} are needed "
                f"(model.context_length={context_length}, {data.split_setting}); "
                "give more text or change these"
            )


def in_fixed_order(documents: Sequence[str]) -> list[str]:
    """Sort documents by the sha256 of their content."""
    return sorted(documents, key=lambda document: sha256(document.encode("utf-8")).digest())


def split(documents: Sequence[str], val_fraction: float) -> tuple[list[str], list[str]]:
    """Cut after the first int(n * (1 - val_fraction)) of n characters."""
    n_train = int(sum(map(len, documents)) * (1 - val_fraction))
    train: list[str] = []
    val: list[str] = []
    for document in documents:
        train.append(document[:n_train])
        val.append(document[n_train:])
        n_train -= len(train[-1])
    return [text for text in train if text], [text for text in val if text]


def _join(documents: Sequence[str], encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Encode documents, with what stands between them; tell where each of them starts."""
    dtype = np.uint16 if encoder.vocab_size <= 2**16 else np.uint32
    between = np.array([], dtype)
    if len(documents) > 1 and encoder.end_of_text is None:
        between = encoder.encode(BLANK_LINE).astype(dtype)
    elif len(documents) > 1:
        between = np.array([encoder.end_of_text], dtype)
    start = [] if encoder.start_of_text is None else [encoder.start_of_text]
    parts = [np.array([], dtype)]
    lengths = [0]
    for ids in encoder.encode_all(documents):
        parts += [np.array(start, dtype), ids.astype(dtype), between]
        lengths.append(len(start) + len(ids) + len(between))
    return np.concatenate(parts[:-1] or parts), np.cumsum(lengths)[:-1]


def _n_bytes(documents: Sequence[str]) -> int:
    return sum(len(document.encode("utf-8")) for document in documents)


def _fingerprint(train: np.ndarray, val: np.ndarray) -> str:
    digest = sha256(f"{len(train)} {len(val)} ".encode())
    for ids in (train, val):
        digest.update(ids.astype(ids.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
