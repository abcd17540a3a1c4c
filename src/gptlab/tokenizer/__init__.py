"""Tokenizers: from text to token ids and back.

Contract: `train(documents)` gives an `Encoder`; `load(folder)` gives the same one back from the
`tokenizer.json` that `save` wrote. Decoding what was encoded gives the text again, character for
character. No text can produce `end_of_text`: that id stands between documents, and only gptlab
puts it there.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gptlab import files
from gptlab.config import Part

FILE = "tokenizer.json"
MAX_FILE_BYTES = 100_000_000


class Tokenizer(Part):
    """The slot `tokenizer`.

    `must_see_all_text`: whether validation text must be shown to `train` too, because the encoder
    could not write down what it has never seen.
    """

    must_see_all_text: ClassVar[bool] = False

    @property
    @abstractmethod
    def expected_vocab_size(self) -> int:
        """The number of ids, as far as it is known before any text is read."""

    @abstractmethod
    def train(self, documents: Sequence[str]) -> "Encoder":
        """Learn the tokens of these texts; the same texts in the same order give the same ones."""

    @abstractmethod
    def restore(self, tree: Any) -> "Encoder":
        """Rebuild an encoder from its `tree`. Raises ValueError for anything else."""

    def load(self, folder: Path) -> "Encoder":
        """Read `tokenizer.json`; only data is read, nothing in it runs.

        The file must be exactly what `save` writes, else ValueError with the file's name.
        """
        file = Path(folder) / FILE
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES:,} bytes")
            text = file.read_bytes().decode("utf-8")
            encoder = self.restore(json.loads(text))
            if encoder.to_json() != text:
                raise ValueError("damaged or changed by hand")
        except OSError as error:
            raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
        except RecursionError:
            raise ValueError(f"{file}: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"{file}: not a {self.variant} tokenizer: {error}") from None
        return encoder


class Encoder(ABC):
    """A trained tokenizer: ids are 0 to `vocab_size` - 1.

    `end_of_text`: the id that stands between documents, or None if there is none.
    `start_of_text`: the id that stands before every text, or None; some models expect one.
    """

    vocab_size: int
    end_of_text: int | None
    start_of_text: int | None = None

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Encode to int64 ids. Raises ValueError for what the tokenizer cannot write down."""

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        """Encode each document by itself."""
        return [self.encode(document) for document in documents]

    @abstractmethod
    def bytes_of(self, id: int) -> bytes:
        """The UTF-8 bytes of one token, perhaps a part of a character; none for end_of_text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Decode a complete text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self.bytes_of(id) for id in ids).decode("utf-8", errors="replace")

    @abstractmethod
    def tree(self) -> dict[str, Any]:
        """Everything there is to know about this encoder, as plain data."""

    def to_json(self) -> str:
        """Write down the tree: the same encoder gives the same text on every machine."""
        return json.dumps(self.tree(), ensure_ascii=False, separators=(",", ":"))

    def save(self, folder: Path) -> None:
        """Write folder/tokenizer.json: all of it or, if that fails, nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / FILE, self.to_json().encode("utf-8"))

    def fingerprint(self) -> str:
        """The sha256 of what `save` writes."""
        return sha256(self.to_json().encode("utf-8")).hexdigest()
