"""Byte-level byte-pair encoding, as in GPT-2: frequent neighbours become one token.

Text is split into words by a pattern; starting from the 256 bytes, the most frequent pair of
tokens within words becomes a token, again and again. The merges, in order, are all there is to
know: `tokenizer.json` is in Hugging Face's format, and its vocabulary follows from its merges.

Sources: Sennrich et al. 2016 (arXiv:1508.07909); GPT-2 (Radford et al. 2019) for bytes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Self, get_args

import numpy as np
from pydantic import Field, model_validator

from gptlab.tokenizer import Encoder, Tokenizer
from gptlab.tokenizer._encoder import utf8
from gptlab.tokenizer._hugging_face import (
    ALPHABET,
    BYTE_OF,
    Merge,
    Pattern,
    build,
    describe,
    spell_tokens,
    splitter_of,
)
from gptlab.tokenizer._sections import sections, short_words
from gptlab.tokenizer._special import SpecialTokens, number_special

AT_ONCE = 2**21  # characters that are encoded at once, shared by the cores: memory stays bounded


class BPE(Tokenizer):
    """`vocab_size`: the most tokens there may be, special ones included; a short text gives fewer.

    `pattern`: how text is split into words. `gpt2` separates letters, digits and the rest; `gpt4`
    also keeps numbers to three digits and line ends with the punctuation before them; `gpt4o`
    parts words where capitals begin, too.
    `special`: special tokens beside end_of_text, which come after it.
    """

    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] = 8192
    pattern: Pattern = "gpt2"
    special: SpecialTokens = ()

    @model_validator(mode="after")
    def _has_room_for_special_tokens(self) -> Self:
        if self.vocab_size < self._n_bytes_and_special:
            raise ValueError(
                f"vocab_size={self.vocab_size} is less than the {self._n_bytes_and_special} that "
                "256 bytes and the special tokens need"
            )
        return self

    @property
    def expected_vocab_size(self) -> int:
        return self.vocab_size

    def train(self, documents: Iterable[str]) -> "BPEEncoder":
        from tokenizers.trainers import BpeTrainer

        trainer = BpeTrainer(
            vocab_size=self.vocab_size - self._n_bytes_and_special + 256,
            min_frequency=2,
            initial_alphabet=ALPHABET,
            show_progress=False,
        )
        untrained = build(describe(self.pattern, [], ()))
        texts = (piece for document in documents for piece in short_words(document))
        untrained.train_from_iterator(texts, trainer)
        model = json.loads(untrained.to_str())["model"]
        merges = [(a, b) for a, b in model["merges"]]
        assert list(model["vocab"]) == spell_tokens(merges), "tokens do not follow from merges"
        return BPEEncoder(self.pattern, merges, self.special)

    def restore(self, tree: Any) -> "BPEEncoder":
        match tree:
            case {"model": {"merges": list(pairs)}}:
                return BPEEncoder(self.pattern, _check_merges(pairs), self.special)
        raise ValueError("it has no list of merges")

    @classmethod
    def recognise(cls, tree: Any) -> Self | None:
        match tree:
            case {
                "pre_tokenizer": splitter,
                "added_tokens": [{"content": "<|endoftext|>"}, *others] as added,
                "model": {"vocab": dict(vocab)},
            }:
                special = [other.get("content") for other in others if isinstance(other, dict)]
                for pattern in get_args(Pattern):
                    if splitter_of(pattern) == splitter:
                        size = len(vocab) + len(added)
                        return cls.parse(
                            {"vocab_size": size, "pattern": pattern, "special": special}
                        )
        return None

    @property
    def _n_bytes_and_special(self) -> int:
        return 256 + len(number_special(self.special, 0))


class BPEEncoder(Encoder):
    """`merges`: pairs of tokens in the order in which they were learned.

    A token is spelled in GPT-2's alphabet, one printable character per byte. The 256 bytes come
    first, then the result of each merge, then end_of_text and the other special tokens.
    """

    def __init__(self, pattern: str, merges: list[Merge], special: SpecialTokens = ()):
        self.pattern, self.merges = pattern, merges
        learned = spell_tokens(merges)
        self.n_ordinary = len(learned)
        self.special = number_special(special, self.n_ordinary)
        self.end_of_text = self.n_ordinary
        self.tokens = [*learned, *self.special]
        self.vocab_size = len(self.tokens)
        if taken := self.special.keys() & set(learned):
            raise ValueError(
                f"tokenizer.special: {min(taken)!r} is an ordinary token too, which the text has "
                "taught; spell it in a way that no text does"
            )
        self._bytes = [bytes(BYTE_OF[letter] for letter in token) for token in learned]
        self._tokenizer = build(self.tree())

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        for text in documents:
            utf8(text)
        ids: list[list[np.ndarray]] = [[np.array([], np.int64)] for _ in documents]
        numbered = ((i, section) for i, text in enumerate(documents) for section in sections(text))
        for batch in _batches(numbered):
            for i, ids_of_section in self._encode_batch(batch):
                ids[i].append(ids_of_section)
        return [np.concatenate(parts) for parts in ids]

    def bytes_of(self, id: int) -> bytes:
        return self._bytes[id] if id < self.n_ordinary else b""

    def tree(self) -> dict[str, Any]:
        _, *special = self.special
        return describe(self.pattern, self.merges, tuple(special))

    def _encode_batch(self, batch: list[tuple[int, str]]) -> Iterator[tuple[int, np.ndarray]]:
        texts = [text for _, text in batch]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for (i, _), encoding in zip(batch, encodings, strict=True):
            yield i, np.array(encoding.ids, dtype=np.int64)


def _batches(numbered: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Take sections together, to about `AT_ONCE` characters."""
    batch: list[tuple[int, str]] = []
    length = 0
    for number, section in numbered:
        batch.append((number, section))
        length += len(section)
        if length >= AT_ONCE:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _check_merges(pairs: list[Any]) -> list[Merge]:
    """Let merges pass that make a new token of two known ones: training makes no others."""
    known, merges = set(ALPHABET), list[Merge]()
    for pair in pairs:
        match pair:
            case [str(a), str(b)] if a in known and b in known and a + b not in known:
                merges.append((a, b))
                known.add(a + b)
            case _:
                raise ValueError(f"merge {len(merges):,} makes no new token of two known ones")
    return merges
