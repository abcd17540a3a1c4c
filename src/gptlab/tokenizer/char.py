"""One token per character: the distinct characters of the text, in the order of their code points.

What the text does not contain cannot be written down, so validation text is looked at too. There
is no end_of_text.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from gptlab.tokenizer import Encoder, Tokenizer


class Char(Tokenizer):
    """No settings of its own."""

    must_see_all_text: ClassVar[bool] = True

    @property
    def expected_vocab_size(self) -> int:
        """That of tiny Shakespeare; another text has its own."""
        return 65

    def train(self, documents: Iterable[str]) -> "CharEncoder":
        characters = set[str]()
        for document in documents:
            characters.update(document)
        return CharEncoder("".join(sorted(characters)))

    def restore(self, tree: Any) -> "CharEncoder":
        match tree:
            case {"type": "char", "characters": str(characters)}:
                if list(characters) != sorted(set(characters)):
                    raise ValueError("its characters are not distinct and in order")
                return CharEncoder(characters)
        raise ValueError("it has no list of characters")


class CharEncoder(Encoder):
    """`characters`: distinct, in the order of their code points; a character's place is its id."""

    end_of_text = None

    def __init__(self, characters: str):
        self.characters = characters
        self.vocab_size = len(characters)
        self._bytes = [character.encode("utf-8") for character in characters]
        codes = _code_points(characters)
        n_codes = int(codes[-1]) + 2 if characters else 1
        self._ids = np.full(n_codes, -1)  # by code point; the last stands for all beyond
        self._ids[codes] = np.arange(len(codes))

    def encode_all(self, documents: Sequence[str]) -> list[np.ndarray]:
        return [self._ids_of(text) for text in documents]

    def bytes_of(self, id: int) -> bytes:
        return self._bytes[id]

    def tree(self) -> dict[str, Any]:
        return {"type": "char", "characters": self.characters}

    def _ids_of(self, text: str) -> np.ndarray:
        ids = self._ids[np.minimum(_code_points(text), len(self._ids) - 1)]
        if len(ids) and ids.min() < 0:
            position = int(ids.argmin())
            raise ValueError(
                f"character {text[position]!r} at position {position:,}: the tokenizer has never "
                f"seen it (it knows {self.vocab_size} characters; tokenizer=byte reads any text)"
            )
        return ids


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
