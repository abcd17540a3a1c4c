"""A set that `gptlab prepare` wrote, mapped into memory: no copy of it, whatever its size."""

import os
from functools import cached_property

import numpy as np

from gptlab.data.batches import check_ids
from gptlab.data.corpus import Corpus, Text
from gptlab.data.prepared import PreparedSet
from gptlab.data.shards import Shards
from gptlab.data.sources import Data
from gptlab.tokenizer import Encoder, Tokenizer


class Prepared(Data):
    """`path`: required. The set's own tokenizer takes the place of the recipe's.

    Of the recipe's `tokenizer` stays how far the model's vocabulary is padded.
    """

    has_path = True

    @cached_property
    def opened(self) -> PreparedSet:
        assert self.path is not None
        try:
            return PreparedSet.open(os.path.expanduser(self.path))
        except ValueError as error:
            raise ValueError(f"data.path: {error}") from None

    def tokenizer(self, asked: Tokenizer) -> Tokenizer:
        return self.opened.tokenizer.but(pad_to_multiple_of=asked.pad_to_multiple_of)

    def expected_vocab_size(self, asked: Tokenizer) -> int:
        return self.opened.manifest.vocab_size

    def prepare(self, tokenizer: Tokenizer) -> tuple[Encoder, Corpus]:
        return self.opened.encoder, self.tokenize(self.opened.encoder)

    def tokenize(self, encoder: Encoder) -> Corpus:
        manifest = self.opened.manifest
        if encoder.fingerprint() != manifest.tokenizer_sha256:
            raise ValueError(
                f"{self.name} was prepared with the tokenizer {manifest.tokenizer_sha256[:12]}, "
                f"this one is {encoder.fingerprint()[:12]}; prepare the text with this one"
            )
        val = self.opened.tokens("val")
        for ids in val.arrays if isinstance(val, Shards) else [val]:
            check_ids(ids, self.name, manifest.vocab_size)
        starts, val_starts = (
            self.opened.documents(split)["start"].astype(np.int64) for split in ("train", "val")
        )
        first = len(encoder.bytes_of(int(val[:1][0]))) if len(val) else 0
        return Corpus(
            texts=(
                Text(
                    self.opened.tokens("train"),
                    starts,
                    name=self.name,
                    n_ids=manifest.vocab_size,
                ),
            ),
            val=val,
            val_starts=val_starts,
            val_bytes=manifest.val.text_bytes - first,
            n_bytes=manifest.train.text_bytes + manifest.val.text_bytes,
            fingerprint=self.opened.fingerprint,
        )

    @property
    def split_setting(self) -> str:
        return "--val-fraction of gptlab prepare"
