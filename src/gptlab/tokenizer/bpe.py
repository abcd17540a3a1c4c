"""Byte-level byte-pair encoding, as in GPT-2: frequent neighbours become one token.

Text is split into words by a pattern; starting from the 256 bytes, the most frequent pair of
tokens within words becomes a token, again and again. The merges, in order, are all there is to
know: `tokenizer.json` is in Hugging Face's format, and its vocabulary follows from its merges.

Sources: Sennrich et al. 2016 (arXiv:1508.07909); GPT-2 (Radford et al. 2019) for bytes.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gptlab.tokenizer import Encoder, Tokenizer

END_OF_TEXT = "<|endoftext|>"
GPT4_PATTERN = (  # as published with OpenAI's cl100k_base
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PIECE = 32_768  # characters that are encoded at a time
PIECES = 128  # so many at once, shared by the cores: memory stays bounded
SEAM = re.compile(r"(?<=\w) ")  # no pattern lets a word go on from here
LONG_RUN = re.compile(r"\S{256}|\s{256}")

Merge = tuple[str, str]


class BPE(Tokenizer):
    """`vocab_size`: the most tokens there may be, end_of_text included; a short text gives fewer.

    `pattern`: how text is split into words. `gpt2` separates letters, digits and the rest; `gpt4`
    also keeps numbers to three digits and line ends with the punctuation before them.
    """

    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] = 8192
    pattern: Literal["gpt2", "gpt4"] = "gpt2"

    @property
    def expected_vocab_size(self) -> int:
        return self.vocab_size

    def train(self, documents: Sequence[str]) -> "BPEEncoder":
        from tokenizers.trainers import BpeTrainer

        trainer = BpeTrainer(
            vocab_size=self.vocab_size - 1,
            min_frequency=2,
            initial_alphabet=_ALPHABET,
            show_progress=False,
        )
        untrained = _tokenizer(_tree(self.pattern, []))
        texts = (piece for document in documents for piece in _short_words(document))
        untrained.train_from_iterator(texts, trainer)
        model = json.loads(untrained.to_str())["model"]
        encoder = BPEEncoder(self.pattern, [(a, b) for a, b in model["merges"]])
        assert list(model["vocab"]) == encoder.tokens[:-1], "tokens do not follow from merges"
        return encoder

    def restore(self, tree: Any) -> "BPEEncoder":
        match tree:
            case {"model": {"merges": list(pairs)}}:
                return BPEEncoder(self.pattern, _check_merges(pairs))
        raise ValueError("it has no list of merges")


class BPEEncoder(Encoder):
    """`merges`: pairs of tokens in the order in which they were learned.

    A token is spelled in GPT-2's alphabet, one printable character per byte. The 256 bytes come
    first, then the result of each merge, then end_of_text.
    """

    def __init__(self, pattern: str, merges: list[Merge]):
        self.pattern, self.merges = pattern, merges
        self.tokens = [*_tokens(merges), END_OF_TEXT]
        self.vocab_size = len(self.tokens)
        self.end_of_text = self.vocab_size - 1
        self._bytes = [bytes(BYTE_OF[letter] for letter in token) for token in self.tokens[:-1]]
        self._bytes.append(b"")
        self._tokenizer = _tokenizer(self.tree())

    def encode(self, text: str) -> np.ndarray:
        return self.encode_all([text])[0]

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        for text in documents:
            text.encode("utf-8")  # a ValueError for half a surrogate pair
        pieces = [(i, piece) for i, text in enumerate(documents) for piece in _pieces(text)]
        ids: list[list[np.ndarray]] = [[] for _ in documents]
        for start in range(0, len(pieces), PIECES):
            batch = pieces[start : start + PIECES]
            texts = [piece for _, piece in batch]
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for (i, _), encoding in zip(batch, encodings, strict=True):
                ids[i].append(np.array(encoding.ids, dtype=np.int64))
        return [np.concatenate(parts) for parts in ids]

    def bytes_of(self, id: int) -> bytes:
        return self._bytes[id]

    def tree(self) -> dict[str, Any]:
        return _tree(self.pattern, self.merges)


def _alphabet() -> dict[str, int]:
    """GPT-2's letters for the 256 bytes: themselves if printable, else the next from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF = _alphabet()
_ALPHABET = sorted(BYTE_OF)


def _tokens(merges: list[Merge]) -> list[str]:
    return [*_ALPHABET, *(a + b for a, b in merges)]


def _check_merges(pairs: list[Any]) -> list[Merge]:
    """Let merges pass that make a new token of two known ones: training makes no others."""
    known, merges = set(_ALPHABET), list[Merge]()
    for pair in pairs:
        match pair:
            case [str(a), str(b)] if a in known and b in known and a + b not in known:
                merges.append((a, b))
                known.add(a + b)
            case _:
                raise ValueError(f"merge {len(merges):,} makes no new token of two known ones")
    return merges


def _tree(pattern: str, merges: list[Merge]) -> dict[str, Any]:
    """Describe the tokenizer in Hugging Face's format."""
    tokens = _tokens(merges)
    end_of_text = {
        "id": len(tokens),
        "content": END_OF_TEXT,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end_of_text],
        "normalizer": None,
        "pre_tokenizer": _splitter(pattern),
        "post_processor": None,
        "decoder": byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": [list(merge) for merge in merges],
        },
    }


def _splitter(pattern: str) -> dict[str, Any]:
    """Describe how text is split into words, and words into bytes; gpt2's pattern is built in."""
    if pattern == "gpt2":
        return byte_level(use_regex=True)
    words = {
        "type": "Split",
        "pattern": {"Regex": GPT4_PATTERN},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [words, byte_level(use_regex=False)]}


def byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _tokenizer(tree: dict[str, Any]) -> Any:
    """Build Hugging Face's tokenizer; it reads `<|endoftext|>` in a text as any other text."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    tokenizer = HuggingFaceTokenizer.from_str(json.dumps(tree))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text where its words part anyway, so that the tokens stay the same."""
    start = 0
    while seam := SEAM.search(text, start + PIECE):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


def _short_words(text: str) -> Iterator[str]:
    """Cut very long words, whose cost in training grows with the square of their length."""
    for piece in _pieces(text):
        start = 0
        for run in LONG_RUN.finditer(piece):
            yield piece[start : run.end()]
            start = run.end()
        yield piece[start:]
