"""A tokenizer that is there already: one of gptlab's, Hugging Face's, OpenAI's.

Byte-pair encoding of two kinds. Of bytes, each spelled as a printable letter: GPT-2, Llama 3, Qwen.
Of characters, with tokens `<0x0A>` for the bytes of those that have none and `▁` for a space:
Llama 2, Gemma. Such a tokenizer may put a space before a text; decoding takes it away again, and
with it, in some, the one space that a text began with. Others, such as Qwen's, compose characters
(Unicode's NFC): "e" and an accent come back as "é". What loses more of a text is refused.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.tokenizer import Encoder, Tokenizer, load_chat, open_ours, recognise
from gptlab.tokenizer._encoder import utf8
from gptlab.tokenizer._hugging_face import BYTE_OF, build, mark_special
from gptlab.tokenizer._published import find_end_of_text, read_published
from gptlab.tokenizer._round_trip import check_round_trip

MAX_VOCABULARY = 10_000_000
AT_ONCE = 2**21  # characters, shared by the cores: memory stays bounded
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Pretrained(Tokenizer):
    """`path`: a folder with a tokenizer, a run's folder, or a `.tiktoken` file; null: the tokenizer
    of a run, by `train.init_from`.

    In a folder: a `tokenizer.json` of gptlab's or Hugging Face's, or `vocab.json` and `merges.txt`,
    or `encoder.json` and `vocab.bpe`, as OpenAI published them for GPT-2, or a `.tiktoken` file.
    """

    path: str | None = None

    @property
    def expected_vocab_size(self) -> int:
        return self.open().vocab_size

    def train(self, documents: Iterable[str]) -> Encoder:
        return self.open()

    def open(self) -> Encoder:
        """Read the tokenizer, whatever the texts are."""
        if self.path is None:
            raise ValueError(
                "tokenizer.path=null: name a folder with a tokenizer.json, or start from a run "
                "that has one by train.init_from=RUN"
            )
        path = Path(self.path).expanduser()
        ours = open_ours(path)
        return read_folder(path) if ours is None else ours[1]

    def restore(self, tree: Any) -> Encoder:
        match tree:
            case {
                "type": "pretrained",
                "end_of_text": str() | None as end,
                "tokenizer": dict(inner),
            }:
                return PretrainedEncoder(inner, end)
        ours = recognise(tree)
        if ours is None or isinstance(ours, Pretrained):
            raise ValueError("it does not hold a tokenizer of Hugging Face's")
        return ours.restore(tree)


class PretrainedEncoder(Encoder):
    """`inner`: the tree of a tokenizer.json. `end`: how the end of a text is spelled, if it is."""

    def __init__(self, inner: dict[str, Any], end: str | None):
        self.inner, self.end = inner, end
        self._tokenizer = build(inner if end is None else mark_special(inner, end))
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {token.content: id for id, token in added.items() if token.special}
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        if self.vocab_size > MAX_VOCABULARY:
            raise ValueError(
                f"it has a token with id {self.vocab_size - 1:,}; at most {MAX_VOCABULARY:,} "
                "tokens are read"
            )
        if end is not None and end not in vocabulary:
            raise ValueError(f"its end of text, {end[:80]!r}, is not one of its tokens")
        if end is not None and end not in self.special:
            raise ValueError(
                f"its end of text, {end[:80]!r}, is a token of ordinary text; name a special token "
                "as eos_token in tokenizer_config.json"
            )
        self.end_of_text = None if end is None else vocabulary[end]
        self._bytes = [b""] * self.vocab_size
        spell = _spelling(inner)
        for token, id in vocabulary.items():
            if token not in self.special:
                self._bytes[id] = spell(token)
        self.start_of_text = self._first_of_every_text()
        ids = self._tokenizer.encode("a", add_special_tokens=False).ids
        self.adds_space = self._bytes[ids[0]].startswith(b" ") if ids else False

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        for text in documents:
            utf8(text)
        ids: list[np.ndarray] = []
        for batch in _batches(documents):
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids += [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        return ids

    def bytes_of(self, id: int) -> bytes:
        return self._bytes[id]

    def decode(self, ids: Sequence[int]) -> str:
        text = super().decode(ids)
        return text.removeprefix(" ") if self.adds_space else text

    def tree(self) -> dict[str, Any]:
        return {"type": "pretrained", "end_of_text": self.end, "tokenizer": self.inner}

    def _first_of_every_text(self) -> int | None:
        """Tell what the tokenizer itself puts before a text, if it does."""
        around = self._tokenizer.encode("", add_special_tokens=True).ids
        return around[0] if around and around[0] != self.end_of_text else None


def read_folder(path: Path) -> PretrainedEncoder:
    """Read a tokenizer as others publish it. Raises ValueError naming what is wrong."""
    folder = path if path.is_dir() else path.parent
    inner = read_published(path)
    try:
        encoder = PretrainedEncoder(inner, find_end_of_text(folder, inner))
        check_round_trip(encoder, inner, encoder.adds_space)
    except ValueError as error:
        raise ValueError(f"{path}: its tokenizer cannot be used: {error}") from None
    load_chat(folder, encoder)
    return encoder


def _spelling(inner: dict[str, Any]) -> Any:
    """Choose how tokens are spelled. Raises ValueError for a tokenizer that loses text."""
    parts = [inner.get("decoder"), inner.get("pre_tokenizer")]
    kinds = {part.get("type") for part in _flat(parts)}
    model = inner.get("model") or {}
    if model.get("type") == "BPE" and "ByteLevel" in kinds:
        return _spelled_in_letters
    if model.get("type") == "BPE" and model.get("byte_fallback"):
        return _spelled_in_characters
    raise ValueError(
        f"it is {model.get('type')} without bytes; gptlab reads byte-pair encodings of bytes "
        "(GPT-2, Llama 3, Qwen) or with byte fallback (Llama 2, Gemma)"
    )


def _flat(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """List steps, those within sequences too."""
    found = []
    for part in parts:
        if isinstance(part, dict):
            found += [part, *_flat([*part.get("decoders", ()), *part.get("pretokenizers", ())])]
    return found


def _spelled_in_letters(token: str) -> bytes:
    """The bytes of a token whose letters stand for bytes; an added token may be plain text."""
    if all(letter in BYTE_OF for letter in token):
        return bytes(BYTE_OF[letter] for letter in token)
    return token.encode("utf-8")


def _spelled_in_characters(token: str) -> bytes:
    """The bytes of a token of characters, or the one byte that it names."""
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode("utf-8")


def _batches(documents: Sequence[str]) -> list[list[str]]:
    """Deal documents out to batches of some length."""
    batches: list[list[str]] = []
    room = 0
    for text in documents:
        if room < len(text) or not batches:
            batches.append([])
            room = AT_ONCE
        batches[-1].append(text)
        room -= len(text)
    return batches
