"""Several texts, of each of which training reads so much: prepared sets, files, folders.

Of every thousand rows each text has its share, whatever its size: a small one is read again and
again. Validation reads the validation texts of all of them, one after another.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Self

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from gptlab.data import corpus
from gptlab.data.corpus import Corpus, Text
from gptlab.data.mixing import PERIOD, shares_of
from gptlab.data.sources import Data
from gptlab.data.sources._texts import Texts
from gptlab.data.sources.prepared import Prepared
from gptlab.tokenizer import Encoder, Tokenizer


class Mixture(Data):
    """`of`: the texts. `weights`: how much of each is read, in any unit; null: as much of each.

    Prepared sets must have one tokenizer, which becomes that of the others too; without such a set
    one is trained on the training texts of all.
    """

    of: tuple[Data, ...] = Field(min_length=1)
    weights: tuple[PositiveFloat, ...] | None = None

    @model_validator(mode="after")
    def _check_texts(self) -> Self:
        if any(isinstance(data, Mixture) for data in self.of):
            raise ValueError("a mixture inside of a mixture: name its texts in one, with weights")
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights is None:
            return self
        if len(self.weights) != len(self.of):
            raise ValueError(f"`weights` has {len(self.weights)} for {len(self.of)} texts in `of`")
        if 0 in shares_of(self.weights):
            least = min(self.weights) / sum(self.weights)
            raise ValueError(
                f"the least of `weights` is {least:.2%} of all; a text needs a {PERIOD}th at least"
            )
        return self

    def tokenizer(self, asked: Tokenizer) -> Tokenizer:
        sets = self._prepared()
        return sets[0].tokenizer(asked) if sets else asked

    def expected_vocab_size(self, asked: Tokenizer) -> int:
        sets = self._prepared()
        return sets[0].expected_vocab_size(asked) if sets else asked.expected_vocab_size

    def prepare(self, tokenizer: Tokenizer) -> tuple[Encoder, Corpus]:
        sets = self._prepared()
        texts = [data for data in self.of if isinstance(data, Texts)]
        encoder = sets[0].opened.encoder if sets else corpus.train_tokenizer(texts, tokenizer)
        return encoder, self.tokenize(encoder)

    def tokenize(self, encoder: Encoder) -> Corpus:
        each = [data.tokenize(encoder) for data in self.of]
        val = [np.asarray(one.val[:]) for one in each]
        before = np.cumsum([0, *map(len, val)])
        val_starts = [start + one.val_starts for start, one in zip(before[:-1], each, strict=True)]
        first_bytes = [len(encoder.bytes_of(int(ids[0]))) for ids in val[1:] if len(ids)]
        return Corpus(
            texts=self._weighted(each),
            val=np.concatenate(val),
            val_starts=np.concatenate(val_starts),
            val_bytes=sum(one.val_bytes for one in each) + sum(first_bytes),
            n_bytes=sum(one.n_bytes for one in each),
            fingerprint=sha256(" ".join(one.fingerprint for one in each).encode()).hexdigest(),
        )

    @property
    def split_setting(self) -> str:
        settings = (data.split_setting.partition("data.") for data in self.of)
        return ", ".join(
            f"data.of.{i}.{end}" if name else start for i, (start, name, end) in enumerate(settings)
        )

    def without_paths(self) -> dict[str, Any]:
        return super().without_paths() | {"of": [data.without_paths() for data in self.of]}

    def _prepared(self) -> list[Prepared]:
        return [data for data in self.of if isinstance(data, Prepared)]

    def _weighted(self, each: Sequence[Corpus]) -> tuple[Text, ...]:
        weights = self.weights or (1.0,) * len(each)
        return tuple(
            replace(text, weight=weight)
            for one, weight in zip(each, weights, strict=True)
            for text in one.texts
        )
