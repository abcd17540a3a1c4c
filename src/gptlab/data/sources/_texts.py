"""Sources that give documents as texts: all of it in memory, tokenized anew by every run."""

from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from gptlab.data import corpus
from gptlab.data.sources import Data
from gptlab.tokenizer import Encoder, Tokenizer


class Texts(Data):
    """`val_fraction`: how much of the text, in characters, is kept for validation."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @abstractmethod
    def documents(self) -> list[str]:
        """Read the texts: none of them empty, in the same order each time, line ends as they are.

        A byte order mark is dropped. Raises ValueError if there are none, or if they are not text.
        """

    def prepare(self, tokenizer: Tokenizer) -> tuple[Encoder, corpus.Corpus]:
        return corpus.prepare(self, tokenizer)

    def tokenize(self, encoder: Encoder) -> corpus.Corpus:
        return corpus.tokenize(self.documents(), encoder, self.val_fraction)

    @property
    def split_setting(self) -> str:
        return f"data.val_fraction={self.val_fraction}"
