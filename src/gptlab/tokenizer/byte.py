"""One token per UTF-8 byte, and end_of_text = 256. Any text can be written down."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from gptlab.tokenizer import Encoder, Tokenizer
from gptlab.tokenizer._encoder import utf8
from gptlab.tokenizer._special import SpecialTokens, number_special


class Byte(Tokenizer):
    """Nothing to learn. `special`: further special tokens, from 257 on."""

    special: SpecialTokens = ()

    @property
    def expected_vocab_size(self) -> int:
        return ByteEncoder(self.special).vocab_size

    def train(self, documents: Iterable[str]) -> "ByteEncoder":
        return ByteEncoder(self.special)

    def restore(self, tree: Any) -> "ByteEncoder":
        return ByteEncoder(self.special)

    @classmethod
    def recognise(cls, tree: Any) -> Self | None:
        match tree:
            case {"type": "byte", "special": list(special)}:
                return cls.parse({"special": special})
        return super().recognise(tree)


class ByteEncoder(Encoder):
    """Ids 0 to 255 are the bytes themselves."""

    end_of_text = 256

    def __init__(self, special: SpecialTokens = ()):
        self.special = number_special(special, 256)
        self.vocab_size = 256 + len(self.special)

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        contents = [np.frombuffer(utf8(text), dtype=np.uint8) for text in documents]
        return [content.astype(np.int64) for content in contents]

    def bytes_of(self, id: int) -> bytes:
        return bytes([id]) if id < 256 else b""

    def tree(self) -> dict[str, Any]:
        _, *special = self.special
        return {"type": "byte"} | ({"special": special} if special else {})
