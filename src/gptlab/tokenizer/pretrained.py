"""A tokenizer from elsewhere: a `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`.

Byte-pair encoding of two kinds. Of bytes, each spelled as a printable letter: GPT-2, Llama 3, Qwen.
Of characters, with tokens `<0x0A>` for the bytes of those that have none and `▁` for a space:
Llama 2, Gemma. Such a tokenizer may put a space before a text; decoding takes it away again.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.tokenizer import FILE, MAX_FILE_BYTES, Encoder, Tokenizer
from gptlab.tokenizer.bpe import BYTE_OF, byte_level

AT_ONCE = 2**21  # characters, shared by the cores: memory stays bounded
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Pretrained(Tokenizer):
    """`path`: a folder with these files; null: that of a run, by `train.init_from`."""

    path: str | None = None

    @property
    def expected_vocab_size(self) -> int:
        return self.open().vocab_size

    def train(self, documents: Sequence[str]) -> "PretrainedEncoder":
        return self.open()

    def open(self) -> "PretrainedEncoder":
        """Read the tokenizer, whatever the texts are."""
        if self.path is None:
            raise ValueError(
                "tokenizer.path=null: name a folder with a tokenizer.json, or start from a run "
                "that has one by train.init_from=RUN"
            )
        return read_folder(Path(self.path).expanduser())

    def restore(self, tree: Any) -> "PretrainedEncoder":
        match tree:
            case {
                "type": "pretrained",
                "end_of_text": str() | None as end,
                "tokenizer": dict(inner),
            }:
                return PretrainedEncoder(inner, end)
        raise ValueError("it does not hold a tokenizer of Hugging Face's")


class PretrainedEncoder(Encoder):
    """`inner`: the tree of a tokenizer.json. `end`: how the end of a text is spelled, if it is."""

    def __init__(self, inner: dict[str, Any], end: str | None):
        self.inner, self.end = inner, end
        self._tokenizer = _build(inner)
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {token.content: id for id, token in added.items() if token.special}
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        if end is not None and end not in vocabulary:
            raise ValueError(f"its end of text, {end[:80]!r}, is not one of its tokens")
        self.end_of_text = None if end is None else vocabulary[end]
        self._bytes = [b""] * self.vocab_size
        spell = _spelling(inner)
        for token, id in vocabulary.items():
            if token not in self.special and id != self.end_of_text:
                self._bytes[id] = spell(token)
        self.start_of_text = self._first_of_every_text()
        ids = self._tokenizer.encode("a", add_special_tokens=False).ids
        self._adds_space = self._bytes[ids[0]].startswith(b" ") if ids else False

    def encode(self, text: str) -> np.ndarray:
        return self.encode_all([text])[0]

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        for text in documents:
            text.encode("utf-8")  # a ValueError for half a surrogate pair
        ids: list[np.ndarray] = []
        for batch in _batches(documents):
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            ids += [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]
        return ids

    def bytes_of(self, id: int) -> bytes:
        return self._bytes[id]

    def decode(self, ids: Sequence[int]) -> str:
        text = super().decode(ids)
        return text.removeprefix(" ") if self._adds_space else text

    def tree(self) -> dict[str, Any]:
        return {"type": "pretrained", "end_of_text": self.end, "tokenizer": self.inner}

    def _first_of_every_text(self) -> int | None:
        """Tell what the tokenizer itself puts before a text, if it does."""
        around = self._tokenizer.encode("", add_special_tokens=True).ids
        return around[0] if around and around[0] != self.end_of_text else None


def read_folder(folder: Path) -> PretrainedEncoder:
    """Read a folder as Hugging Face's tools write it. Raises ValueError naming what is wrong."""
    inner = _read_json(folder / FILE) or _read_merges(folder)
    if inner is None:
        raise ValueError(f"{folder} has no tokenizer: neither {FILE} nor vocab.json and merges.txt")
    try:
        return PretrainedEncoder(inner, _end_of_text(folder, inner))
    except ValueError as error:
        raise ValueError(f"{folder}: its tokenizer cannot be used: {error}") from None


def _read_json(file: Path) -> dict[str, Any] | None:
    """Read an object, None if there is no such file."""
    if not file.exists():
        return None
    try:
        tree = json.loads(_read_text(file))
    except RecursionError:
        raise ValueError(f"{file}: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{file}: damaged: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{file}: damaged: it holds no object")
    return tree


def _read_text(file: Path) -> str:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
    return file.read_bytes().decode("utf-8")


def _read_merges(folder: Path) -> dict[str, Any] | None:
    """Make a tokenizer.json of GPT-2's two files."""
    vocabulary, merges = _read_json(folder / "vocab.json"), folder / "merges.txt"
    if vocabulary is None or not merges.exists():
        return None
    lines = _read_text(merges).split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    specials = [token for token in vocabulary if re.fullmatch(r"<\|.*\|>", token)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary[token], "content": token, "special": True, "normalized": False}
            | {"single_word": False, "lstrip": False, "rstrip": False}
            for token in specials
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level(use_regex=True),
        "post_processor": None,
        "decoder": byte_level(use_regex=True),
        "model": {"type": "BPE", "vocab": vocabulary, "merges": pairs},
    }


def _end_of_text(folder: Path, inner: dict[str, Any]) -> str | None:
    """Find what ends a text: by name in the tokenizer's config, else by id in the model's."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        match (_read_json(folder / name) or {}).get("eos_token"):
            case str(content) | {"content": str(content)}:
                return content
    for name in ("generation_config.json", "config.json"):
        match (_read_json(folder / name) or {}).get("eos_token_id"):
            case int(id) | [int(id), *_]:
                return _build(inner).id_to_token(id)
    return None


def _build(inner: dict[str, Any]) -> Any:
    """Build Hugging Face's tokenizer; it reads special tokens in a text as any other text."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    try:
        tokenizer = HuggingFaceTokenizer.from_str(json.dumps(inner))
    except Exception as error:  # the library raises nothing more definite
        raise ValueError(f"damaged: {str(error)[:200]}") from None
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


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
