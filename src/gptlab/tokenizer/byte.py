"""One token per UTF-8 byte, and end_of_text = 256. Any text can be written down."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gptlab.tokenizer import Encoder, Tokenizer


class Byte(Tokenizer):
    """No settings, and nothing to learn."""

    @property
    def expected_vocab_size(self) -> int:
        return ByteEncoder.vocab_size

    def train(self, documents: Sequence[str]) -> "ByteEncoder":
        return ByteEncoder()

    def restore(self, tree: Any) -> "ByteEncoder":
        return ByteEncoder()


class ByteEncoder(Encoder):
    """Ids 0 to 255 are the bytes themselves."""

    vocab_size = 257
    end_of_text = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def bytes_of(self, id: int) -> bytes:
        return b"" if id == self.end_of_text else bytes([id])

    def tree(self) -> dict[str, Any]:
        return {"type": "byte"}
