"""Data: where text comes from (`sources`), how it is split and tokenized, how it is served.

A text that fits into memory goes through `corpus.py`; one that does not through `preparation`,
which reads it by `formats`, to a set that `prepared.py` opens.

`corpus.py` makes token ids of documents, `batching` lays these out in rows, and `batches.py` serves
them step by step.
"""

from gptlab.data.sources import Data as Data
